//! The clients that users of the stores have today and `Secrets`, side by side: the same operations through both, against the same emulated store. What each
//! step answers and what is there in the end is the same, but for the differences that `docs/coming-from.md` lists.
//!
//! Each comparison does steps that meet every listed difference, then as many as a generator makes. A difference that isn't listed fails, and so does one
//! that is listed and isn't met. `DIFFERENTIAL_SEED` makes other steps; the seed and all steps are printed, which a failure shows.

mod hvac;
mod platforms;
mod prefect;
mod s1crets;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use robotosecret::{
    secrets::{Error, Secret},
    sensitive::Sensitive,
};
use serde_json::{Value, json};
use testbed::aws;

use crate::{
    support::{root, run},
    writing::moto,
};

/// What is before every driver.
const SERVE: &str = include_str!("serve.py");
/// What is before the drivers of clients of AWS besides.
const AWS: &str = include_str!("aws.py");

/// Somebody else's client in a process of its own, which does one step after the other.
struct Theirs {
    child: Child,
    /// Held until the end: closing it is the sign to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Theirs {
    fn start(python: &Path, script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(python);
        command.args(["-c", script]).args(arguments).env("PYTHONIOENCODING", "utf-8").envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// A client of the AWS that this process's environment names.
    fn of_aws(python: &Path, script: &str) -> Self {
        Self::start(python, &format!("{SERVE}\n{AWS}\n{script}"), &[], &[("AWS_MAX_ATTEMPTS", "10")])
    }

    #[allow(clippy::needless_pass_by_value)] // It is written where it is asked.
    fn ask(&mut self, step: Value) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{step}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{step}: the client has ended; what it said is above"))
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        self.input = None;
        // It ends at the end of its input.
        let _ = self.child.wait();
    }
}

/// What decides over the next step.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("DIFFERENTIAL_SEED").map_or(1, |seed| seed.parse().expect("DIFFERENTIAL_SEED is a number"));
        println!("DIFFERENTIAL_SEED={seed}");
        Self(seed)
    }

    /// A number below this one (`SplitMix64`).
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// JSON that Python and Rust write alike.
    fn json(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 9 } else { 14 }) {
            0 => "\"\"".to_owned(),
            1 => "\"pä$ 日本\"".to_owned(),
            2 => "\"x\"".to_owned(),
            3 => "0".to_owned(),
            4 => "340282366920938463463374607431768211456".to_owned(),
            5 => "-1.5".to_owned(),
            6 => "null".to_owned(),
            7 => "true".to_owned(),
            8 => "false".to_owned(),
            9 | 10 => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", items.join(","))
            }
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: usize) -> String {
        let names: BTreeSet<&str> = (0..self.below(7)).map(|_| self.pick(&MEMBERS)).collect();
        let members: Vec<String> = names.into_iter().map(|name| format!("\"{name}\":{}", self.json(depth))).collect();
        format!("{{{}}}", members.join(","))
    }

    /// Where a keypath may lead.
    fn keypath(&mut self) -> Vec<&'static str> {
        (0..=self.below(3)).map(|_| self.pick(&MEMBERS)).collect()
    }
}

/// The names of members.
const MEMBERS: [&str; 5] = ["a", "b", "n", "a.b", "ä/~"];

/// Two clients that are compared.
struct Comparison {
    client: &'static str,
    /// The differences that the document lists, by their names.
    listed: BTreeSet<String>,
    met: BTreeSet<String>,
    compared: usize,
    outcomes: BTreeMap<String, usize>,
}

impl Comparison {
    /// `client`: the heading of its section in the document.
    fn new(client: &'static str) -> Self {
        let text = std::fs::read_to_string(root().join("docs/coming-from.md")).unwrap();
        let (_, section) = text.split_once(&format!("\n## {client}\n")).unwrap_or_else(|| panic!("{client} has no section"));
        let section = section.split("\n## ").next().unwrap();
        let (_, table) = section.split_once("\n| difference | there | here |\n|---|---|---|\n").unwrap_or_default();
        let rows = table.split("\n\n").next().unwrap().lines();
        let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect();
        assert!(rows.iter().all(|row| row.len() == 3 && row.iter().all(|cell| !cell.is_empty())), "{rows:?}");
        let listed = rows.iter().map(|row| row[0].to_owned()).collect();
        Self { client, listed, met: BTreeSet::new(), compared: 0, outcomes: BTreeMap::new() }
    }

    /// Takes both answers to a step. `why`: the difference that they may have; it is asked only if they differ.
    fn note(&mut self, step: &Value, theirs: &Value, ours: &Value, why: impl FnOnce() -> Option<&'static str>) {
        self.compared += 1;
        println!("{step}: {theirs} | {ours}");
        *self.outcomes.entry(ours.as_str().unwrap_or("value").to_owned()).or_default() += 1;
        if theirs == ours {
            return;
        }
        let why = why().unwrap_or_else(|| panic!("{}: {step}: there {theirs}, here {ours}, and the document lists no such difference", self.client));
        assert!(self.listed.contains(why), "{}: the document doesn't list {why:?}: {step}: there {theirs}, here {ours}", self.client);
        self.met.insert(why.to_owned());
    }

    /// As [`Comparison::note`] of a step that meets a difference, or none.
    fn meets(&mut self, step: &Value, theirs: &Value, ours: &Value, difference: Option<&'static str>) {
        assert_eq!(theirs != ours, difference.is_some(), "{step}: there {theirs}, here {ours}, but {difference:?}");
        self.note(step, theirs, ours, || difference);
    }

    /// All that is listed was met, and each of these outcomes was seen this often at least.
    fn end(self, outcomes: &[(&str, usize)]) {
        let mut said = String::new();
        let _ = write!(said, "{}: {} steps, {:?}", self.client, self.compared, self.outcomes);
        println!("{said}");
        assert_eq!(self.met, self.listed, "{}: met and listed", self.client);
        for (outcome, least) in outcomes {
            assert!(self.outcomes.get(*outcome).is_some_and(|count| count >= least), "{outcome} fewer than {least} times: {said}");
        }
    }
}

/// A value of ours as the drivers show it.
fn shown(secret: &Secret) -> Value {
    if secret.is_binary() { json!(["bytes", latin1(secret.expose())]) } else { json!(["text", String::from_utf8(secret.expose().to_vec()).unwrap()]) }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A value as the steps have it.
fn given(kind: &str, text: &str) -> Sensitive {
    Sensitive::new(if kind == "bytes" { text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect() } else { text.as_bytes().to_vec() })
}

/// The class of an error of ours, as the drivers call it.
fn class(error: &Error) -> &'static str {
    match error {
        Error::NotFound(_) => "NotFound",
        Error::AlreadyExists(_) => "AlreadyExists",
        Error::Conflict { .. } => "Conflict",
        Error::AccessDenied(_) => "AccessDenied",
        Error::KeypathNotFound(_) => "KeypathNotFound",
        Error::InvalidName(_) | Error::InvalidRequest(_) => "Refused",
        Error::NotSupported { .. } => "NotSupported",
        other => panic!("{other}"),
    }
}

/// What came of a write of ours.
#[allow(clippy::needless_pass_by_value)] // What a call answers is told where it is made.
fn done<T>(answer: Result<T, Error>) -> Value {
    answer.map_or_else(|error| json!(class(&error)), |_| json!("ok"))
}

/// What came of a read of ours.
#[allow(clippy::needless_pass_by_value)]
fn read(answer: Result<Secret, Error>) -> Value {
    answer.map_or_else(|error| json!(class(&error)), |secret| shown(&secret))
}

/// A reference with a keypath.
fn with_keypath(reference: &str, keypath: &[String]) -> String {
    if keypath.is_empty() { reference.to_owned() } else { format!("{reference}#{}", robotosecret::api::reference::pointer(keypath)) }
}

/// Runs an ignored test of this program in a process of its own, whose environment has the address of the emulated AWS and its keys. The library takes them
/// from there, as all its users' programs do, and no test can change its own environment while others run.
fn in_an_environment_of_aws(test: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", test]).env("AWS_ENDPOINT_URL", moto().url());
    command.envs([("AWS_ACCESS_KEY_ID", aws::ACCESS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", aws::SECRET_ACCESS_KEY)]);
    let said = run(command.envs([("AWS_REGION", aws::REGION), ("AWS_DEFAULT_REGION", aws::REGION)]), "");
    println!("{}", said.out);
    assert!(said.ok && said.out.contains("1 passed"), "{}", said.err);
}
