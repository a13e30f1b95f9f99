//! The scenarios: what is done and between which two moments the clock runs. A world enters, phases leave, also
//! those before an error. An error means that something did not work (not all mirrored, a value wrong); a slow or costly run is none, it is a
//! number.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testbed::Controller;
use testbed::front::SSM_READS;

use super::floor;
use super::meter::Reading;
use super::report::{Phase, Step, count, thousands, worst};
use super::watch::{Patience, Watch};
use super::world::{CONCURRENCY, INTERVAL, Item, KEY, RobotoSecret, World, ready};
use super::{Plan, Scenario};

/// How many secrets get a new value at once.
const ROTATED: usize = 50;

/// The shortest TTL there is: with it the rechecks of a great many resources never stop, so that whenever a new one comes it comes in the
/// middle of a wave, and of a denser one than that after a restart, which is spread over a minute.
const WAVE_TTL: &str = "10s";
const WAVE_TRIES: usize = 10;

/// `ssm:GetParameter*` on a new account.
const SSM_QUOTA: u32 = 40;

/// How many providers, each with a role of its own, the scenario `providers` has.
const PROVIDERS: usize = 200;
/// How many secrets the resources of the scenario `shared` refer to.
const SHARED: usize = 10;

/// One world with `count` resources, each on a secret of its own, through all that can happen to it.
pub async fn mirrored(plan: &Plan, binary: &Path, logs: &Path, count: usize, phases: &mut Vec<Phase>) -> Result<()> {
    let world = World::start(binary, logs).await?;
    if plan.starts_empty(count) {
        say(count, "start without resources");
        phases.push(empty(&world).await?);
    }
    let mut items: Vec<Item> = (0..count).map(|number| secret(number, 1)).collect();
    world.emulator.put_secrets((0..count).map(|number| stored(number, 1)));
    let controller = cold(&world, &items, Step::Cold, phases).await?;
    if plan.wants(Scenario::Steady) {
        for number in 1..=plan.intervals(count) {
            say(count, &format!("interval {number} of {}", plan.intervals(count)));
            phases.push(interval(&world, &controller, count, Step::Interval).await?);
        }
        world.check(&items).await?;
    }
    if plan.rotates(count) {
        say(count, &format!("{ROTATED} rotated"));
        phases.push(rotated(&world, &controller, &mut items).await?);
        world.check(&items).await?;
    }
    if plan.waves(count) {
        say(count, "new ones in a wave");
        phases.push(wave(&world, &controller, &mut items).await?);
        world.check(&items).await?;
    }
    end(controller)?;
    if plan.wants(Scenario::Floor) {
        say(count, "the floor");
        phases.push(alone(Step::Floor, count, floor::measure(&world, count).await?));
    }
    Ok(())
}

/// Parameters under the store's quota.
pub async fn ssm(binary: &Path, logs: &Path, count: usize, phases: &mut Vec<Phase>) -> Result<()> {
    let world = World::start(binary, logs).await?;
    world.emulator.quota(SSM_READS, SSM_QUOTA);
    let items: Vec<Item> = (0..count).map(|number| Item::new(number, format!("aws.ps:///bench/{number}"), value(number, 1))).collect();
    world.emulator.put_parameters(items.iter().enumerate().map(|(number, item)| (format!("/bench/{number}"), item.value.clone())));
    end(cold(&world, &items, Step::SsmCold, phases).await?)
}

/// Many resources on few secrets.
pub async fn shared(binary: &Path, logs: &Path, count: usize, phases: &mut Vec<Phase>) -> Result<()> {
    let world = World::start(binary, logs).await?;
    world.emulator.put_secrets((0..SHARED).map(|number| stored(number, 1)));
    let item = |number: usize| Item { uri: uri(number % SHARED), value: value(number % SHARED, 1), ..secret(number, 1) };
    let items: Vec<Item> = (0..count).map(item).collect();
    let controller = cold(&world, &items, Step::SharedCold, phases).await?;
    say(count, "a TTL");
    phases.push(interval(&world, &controller, count, Step::SharedInterval).await?);
    world.check(&items).await?;
    end(controller)
}

async fn empty(world: &World) -> Result<Phase> {
    let started = Instant::now();
    let controller = world.start_controller()?;
    let took = ready(&controller).await? - started;
    end(controller)?;
    Ok(alone(Step::Ready, 0, took))
}

/// Makes the resources, starts the controller, and waits until all are mirrored. Of the scenario `cold` the start alone is a phase too.
async fn cold(world: &World, items: &[Item], step: Step, phases: &mut Vec<Phase>) -> Result<Controller> {
    say(items.len(), "making the resources");
    world.create(items.iter().map(Item::resource)).await?;
    let mut resources = Watch::resources(&world.client).await?;
    say(items.len(), "cold");
    let before = Reading::of_store(&world.emulator);
    let started = Instant::now();
    let controller = world.start_controller()?;
    let patience = Patience::new(&controller, patience(items.len()));
    let both = async { tokio::try_join!(ready(&controller), resources.until_ready(items.len(), 1, patience)) };
    let (ready, mirrored) = both.await.with_context(|| controller.process.log_tail())?;
    let cost = Reading::take(&world.emulator, &controller)?.since(&before);
    world.check(items).await?;
    if step == Step::Cold {
        phases.push(alone(Step::Ready, items.len(), ready - started));
    }
    let seconds = (mirrored - started).as_secs_f64();
    phases.push(Phase { step, resources: items.len(), seconds, tries: Vec::new(), cost: Some(cost) });
    Ok(controller)
}

/// Waits a refresh interval in which nothing is done.
async fn interval(world: &World, controller: &Controller, resources: usize, step: Step) -> Result<Phase> {
    let before = Reading::take(&world.emulator, controller)?;
    let started = Instant::now();
    tokio::time::sleep(INTERVAL).await;
    let cost = Reading::take(&world.emulator, controller)?.since(&before);
    Ok(Phase { step, resources, seconds: started.elapsed().as_secs_f64(), tries: Vec::new(), cost: Some(cost) })
}

/// Gives some secrets, one in each so many, a new value at once, and waits until their Secrets hold it.
async fn rotated(world: &World, controller: &Controller, items: &mut [Item]) -> Result<Phase> {
    let resources = items.len();
    let every = resources.div_ceil(ROTATED);
    let mut secrets = Watch::secrets(&world.client).await?;
    let before = Reading::take(&world.emulator, controller)?;
    let mut waiting: Vec<Item> = Vec::new();
    for (number, item) in items.iter_mut().enumerate().step_by(every) {
        let (name, content) = stored(number, 2);
        world.emulator.put_secret(&name, &content);
        item.value = value(number, 2);
        waiting.push(item.clone());
    }
    let started = Instant::now();
    let patience = Patience::new(controller, INTERVAL * 2 + patience(resources));
    while !waiting.is_empty() {
        let what = format!("{} rotated Secrets", waiting.len());
        let (namespace, name) = secrets.next_name(&what, patience).await.with_context(|| controller.process.log_tail())?;
        let Some(index) = waiting.iter().position(|item| item.namespace == namespace && item.name == name) else { continue };
        // The watch shows that the Secret changed, not what it holds.
        if world.holds(&waiting[index]).await? {
            waiting.swap_remove(index);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let cost = Reading::take(&world.emulator, controller)?.since(&before);
    Ok(Phase { step: Step::Rotated, resources, seconds, tries: Vec::new(), cost: Some(cost) })
}

/// Makes all resources due all the time, and then makes new ones, one after the other.
async fn wave(world: &World, controller: &Controller, items: &mut Vec<Item>) -> Result<Phase> {
    let resources = items.len();
    let mut watch = Watch::resources(&world.client).await?;
    let shorter = json!({"spec": {"ttl": WAVE_TTL}});
    let patches = items.iter().map(|item| {
        let api: Api<RobotoSecret> = Api::namespaced(world.client.clone(), &item.namespace);
        let shorter = &shorter;
        async move { api.patch(&item.name, &PatchParams::default(), &Patch::Merge(shorter)).await.map(drop) }
    });
    let patience = Patience::new(controller, patience(resources) * 2);
    let shortened = async { stream::iter(patches).buffer_unordered(CONCURRENCY).try_collect::<()>().await.context("shortening the TTLs") };
    // Both at once, or the watch's events would pile up.
    tokio::try_join!(shortened, watch.until_ready(resources, 2, patience)).with_context(|| controller.process.log_tail())?;
    drop(watch);
    let before = Reading::take(&world.emulator, controller)?;
    let mut tries = Vec::new();
    for number in resources..resources + WAVE_TRIES {
        let (name, content) = stored(number, 1);
        world.emulator.put_secret(&name, &content);
        let item = secret(number, 1);
        let mut watch = Watch::secret(&world.client, &item.namespace, &item.name).await?;
        let started = Instant::now();
        world.create([item.resource()]).await?;
        let what = "a new resource's Secret";
        watch.next_name(what, patience).await.with_context(|| controller.process.log_tail())?;
        tries.push(started.elapsed().as_secs_f64());
        items.push(item);
        // The tries are spread over more than one round of rechecks.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let cost = Reading::take(&world.emulator, controller)?.since(&before);
    Ok(Phase { step: Step::New, resources, seconds: worst(tries.iter().copied()).unwrap_or_default(), tries, cost: Some(cost) })
}

/// Ends the controller as Kubernetes would.
fn end(controller: Controller) -> Result<()> {
    let log = controller.process.log_path().to_owned();
    match controller.process.stop()? {
        0 => Ok(()),
        code => bail!("the controller ended with code {code} instead of 0 when it was asked to; its log is {}", log.display()),
    }
}

/// A phase without a controller's costs.
fn alone(step: Step, resources: usize, took: Duration) -> Phase {
    Phase { step, resources, seconds: took.as_secs_f64(), tries: Vec::new(), cost: None }
}

/// How long it may take to mirror so many before something must be wrong: a tenth of a second each, many times what it should be.
fn patience(resources: usize) -> Duration {
    Duration::from_mins(2) + Duration::from_millis(100) * u32::try_from(resources).unwrap_or(u32::MAX)
}

/// What people read while they wait.
fn say(resources: usize, what: &str) {
    eprintln!("bench: {} resources: {what}", thousands(count(resources)));
}

fn uri(number: usize) -> String {
    format!("aws.sm://bench/{number}#/{KEY}")
}

/// The `round`th value of a secret.
fn value(number: usize, round: usize) -> String {
    format!("value {round} of secret {number}, as long as a password is")
}

/// Many providers, each with a role of its own that is assumed over another one.
pub async fn providers(binary: &Path, logs: &Path, count: usize, phases: &mut Vec<Phase>) -> Result<()> {
    let world = World::start(binary, logs).await?;
    world.emulator.put_secrets((0..count).map(|number| stored(number, 1)));
    let name = |number: usize| format!("team-{}", number % PROVIDERS);
    let role = |name: &str| format!("arn:aws:iam::{}:role/{name}", testbed::aws::ACCOUNT);
    for number in 0..PROVIDERS.min(count) {
        world.provide(&name(number), &[role("hub"), role(&name(number))]).await?;
    }
    let items: Vec<Item> = (0..count).map(|number| Item { provider: name(number), ..secret(number, 1) }).collect();
    let controller = cold(&world, &items, Step::ProvidersCold, phases).await?;
    say(count, "a TTL");
    phases.push(interval(&world, &controller, count, Step::ProvidersInterval).await?);
    world.check(&items).await?;
    end(controller)
}

/// A resource on a secret of its own.
fn secret(number: usize, round: usize) -> Item {
    Item::new(number, uri(number), value(number, round))
}

/// Name and content in the store: a JSON object, out of which one member is mirrored.
fn stored(number: usize, round: usize) -> (String, String) {
    let content: Value = json!({"username": format!("user-{number}"), KEY: value(number, round), "host": "db.example.com", "port": 3306});
    (format!("bench/{number}"), content.to_string())
}
