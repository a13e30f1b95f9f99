//! Inside the namespaces: starts the cluster and plays the scenes in it. Arguments enter, a verdict leaves. It must never outlive the process
//! that started it, and must never run in the host's namespaces (the node refuses that).

use std::io::Read;
use std::time::Instant;

use anyhow::Result;

use crate::stage::{Stage, heading};
use crate::{Inside, Scene, faults, first, hold, modes, upgrade};

pub fn run(arguments: &Inside) -> Result<()> {
    // The other end is held by `outside`: it closes however that one ends, and all namespaces end with this process.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(130);
    });
    heading("a node");
    let mut stage = Stage::start(arguments)?;
    for scene in &arguments.only {
        let started = Instant::now();
        let outcome = match scene {
            Scene::First => first::play(&mut stage),
            Scene::Faults => faults::play(&mut stage),
            Scene::Upgrade => upgrade::play(&mut stage),
            Scene::Modes => modes::play(&mut stage),
            Scene::Hold => hold::play(&stage),
        };
        if let Err(error) = outcome {
            println!("\n== FAILED in the scene {scene}: {error:#}");
            stage.explain();
            return Err(error.context(format!("the scene {scene}")));
        }
        println!("  {:>6.1} s  in all", started.elapsed().as_secs_f32());
    }
    Ok(())
}
