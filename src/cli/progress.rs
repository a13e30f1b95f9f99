//! How far a long list is: one line on a terminal's standard error while it runs, gone before anything else is printed.
//!
//! Numbers enter, never a name or a value. It is drawn with a carriage return and spaces alone, which any terminal knows; into a pipe nothing is written.

use std::{
    env,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::time::{Instant, interval_at};

/// What takes no longer is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is drawn anew.
const EVERY: Duration = Duration::from_millis(200);

/// Does the work, and shows this line meanwhile.
pub async fn shown<T>(line: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    let dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if dumb || !io::stderr().is_terminal() {
        return work.await;
    }
    tokio::pin!(work);
    let (mut ticks, mut width) = (interval_at(Instant::now() + PATIENCE, EVERY), 0);
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                if width > 0 {
                    draw(&format!("\r{:width$}\r", ""));
                }
                return done;
            }
            _ = ticks.tick() => {
                let line = line();
                width = width.max(line.len());
                draw(&format!("\r{line:width$}"));
            }
        }
    }
}

/// That nobody can see it changes nothing.
fn draw(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
