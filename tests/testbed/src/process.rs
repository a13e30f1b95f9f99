//! Child processes that can't outlive the process that started them. A [`Spec`] enters, a running [`Process`] leaves; its
//! output goes to a log file. The child ends when the `Process` is dropped, when the starter panics, is interrupted or is
//! killed with signal 9. Nothing here must end a process that it didn't start itself.
//!
//! How: each child runs under a small shell script, the guard, whose standard input is a pipe that only the starter holds.
//! Whatever ends the starter closes the pipe, and then the guard ends the child. (Linux has a "die with your parent" flag,
//! but it needs `unsafe` and follows the starting thread, not the process.)

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often something that has no way to wake us is looked at.
const POLL: Duration = Duration::from_millis(10);

/// What remains of the grace when the guard has to kill, in which it must have ended.
const GUARD_ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Arguments: the grace in seconds, the folder to remove ("" for none), the command.
/// Standard input: the pipe. Standard output: one line with the child's pid. Standard error: the log file.
const GUARD: &str = r#"
grace=$1 remove=$2
shift 2
exec 3<&0 </dev/null
"$@" >&2 3<&- &
child=$!
(
  read -r _ <&3
  # From here on the main shell waits for this one instead of ending it.
  trap '' TERM
  if [ "$grace" -gt 0 ]; then
    kill -s TERM "$child"
    # A stopped process sees the signal when it continues.
    kill -s CONT "$child"
    tenths=$((grace * 10))
    while [ "$tenths" -gt 0 ] && kill -s 0 "$child"; do
      sleep 0.1
      tenths=$((tenths - 1))
    done
  fi
  kill -s KILL "$child"
  while kill -s 0 "$child"; do sleep 0.1; done
  [ -z "$remove" ] || rm -rf "$remove"
) >/dev/null 2>&1 &
watcher=$!
echo "$child"
exec >&2
wait "$child"
status=$?
kill -s TERM "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
exit "$status"
"#;

/// What to start and how.
#[derive(Debug, Clone)]
pub struct Spec {
    program: PathBuf,
    name: String,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    cleared: bool,
    current_dir: Option<PathBuf>,
    grace: Duration,
    remove: Option<PathBuf>,
}

impl Spec {
    /// A program by path, or by name when it is on `PATH`. Without more it runs in the starter's folder, with its environment
    /// and 5 s of grace.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let name = program.file_name().map_or_else(|| "process".to_owned(), |name| name.to_string_lossy().into_owned());
        Self { program, name, args: Vec::new(), env: BTreeMap::new(), cleared: false, current_dir: None, grace: Duration::from_secs(5), remove: None }
    }

    /// The name that the log file gets (default: the program's file name).
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// Starts from an environment that holds `PATH` and nothing else of the starter's.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.cleared = true;
        self
    }

    /// The folder in which the child starts.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// How long the child may take after SIGTERM before it gets SIGKILL, in whole seconds; zero is SIGKILL at once.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// A folder that the guard removes after it had to end the child (not when the child ends by itself), so that nothing
    /// stays behind either when the starter was killed.
    #[must_use]
    pub fn remove_at_end(mut self, folder: impl Into<PathBuf>) -> Self {
        self.remove = Some(folder.into());
        self
    }

    /// Starts the child. Its standard output and error go to `<log_dir>/<name>.log` (`<name>-2.log` if that exists, and so on);
    /// the folder is made if it isn't there. A program that can't be run ends with exit code 126 or 127.
    pub fn start(self, log_dir: &Path) -> Result<Process> {
        let (log_path, log) = new_log(log_dir, &self.name)?;
        let mut command = Command::new("sh");
        if self.cleared {
            command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        command
            .args(["-c", GUARD, "guard", &self.grace.as_secs().to_string()])
            .arg(self.remove.unwrap_or_default())
            .arg(&self.program)
            .args(&self.args)
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Out of the terminal's foreground group: Ctrl-C reaches the starter only, and the guard follows.
            .process_group(0);
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        let mut guard = command.spawn().with_context(|| format!("starting sh to guard {}", self.program.display()))?;
        let pipe = guard.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = guard.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).with_context(|| format!("starting {}", self.name))?;
        }
        let mut process = Process { name: self.name, pid: 0, grace: self.grace, log: log_path, guard: Mutex::new(guard), pipe };
        let Ok(pid) = line.trim().parse() else { bail!("the guard of {} gave no pid; {}", process.name, process.log_tail()) };
        process.pid = pid;
        Ok(process)
    }
}

/// A signal that a test may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: please end.
    Term,
    /// SIGINT: what Ctrl-C sends. The shell starts the child with it ignored: only a program with a handler of its own sees it.
    Int,
    /// SIGKILL: ends at once, without a word.
    Kill,
    /// SIGSTOP: stands still until SIGCONT.
    Stop,
    /// SIGCONT: goes on after SIGSTOP.
    Cont,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Cont => "CONT",
        }
    }
}

/// A running (or ended) child. Dropping it ends the child and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    grace: Duration,
    log: PathBuf,
    guard: Mutex<Child>,
    /// Held, never written to: closing it is the sign to end.
    pipe: Option<ChildStdin>,
}

impl Process {
    /// The child's own process id (not the guard's).
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that holds the child's standard output and error.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All that the child has written so far; bytes that aren't UTF-8 are replaced.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The log's path and last lines, in a form that fits into an error.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("its log ({}) ends with:\n{}", self.log.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// Whether the child has not ended yet (a stopped one is running).
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.guard().try_wait(), Ok(None))
    }

    /// Waits until the child has ended and returns its exit code, 128 + n if signal n ended it. An error after `deadline`.
    /// Blocks the thread.
    pub fn wait_exit(&self, deadline: Duration) -> Result<i32> {
        let end = Instant::now() + deadline;
        loop {
            let status = self.guard().try_wait().with_context(|| format!("waiting for {}", self.name))?;
            if let Some(status) = status {
                return Ok(code(status));
            }
            if Instant::now() >= end {
                bail!("{} still runs after {deadline:?}; {}", self.name, self.log_tail());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends a signal to the child. An error if it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        // The lock keeps the guard from being reaped in between; the guard alive means that the pid is still the child's.
        let mut guard = self.guard();
        if guard.try_wait()?.is_some() {
            bail!("{} has ended, SIG{} can't be sent", self.name, signal.name());
        }
        let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "kill", signal.name(), &self.pid.to_string()]).stderr(Stdio::null()).status()?;
        if !status.success() {
            bail!("SIG{} could not be sent to {} (pid {})", signal.name(), self.name, self.pid);
        }
        Ok(())
    }

    /// Ends the child as a drop does and returns its exit code.
    pub fn stop(mut self) -> Result<i32> {
        self.pipe = None;
        self.wait_exit(self.grace + GUARD_ENDS_WITHIN)
    }

    fn guard(&self) -> MutexGuard<'_, Child> {
        // A panic while the lock was held leaves a usable `Child`.
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.pipe = None;
        if let Err(error) = self.wait_exit(self.grace + GUARD_ENDS_WITHIN) {
            eprintln!("testbed: {error:#}");
        }
    }
}

/// The shell's way to put an exit status in one number.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn new_log(dir: &Path, name: &str) -> Result<(PathBuf, File)> {
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for number in 1_u32.. {
        let path = dir.join(if number == 1 { format!("{name}.log") } else { format!("{name}-{number}.log") });
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("making {}", path.display())),
        }
    }
    bail!("{} holds too many logs of {name}", dir.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::TempFolder;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Spec {
        Spec::new("sh").args(["-c", script])
    }

    /// Whether any process has this pid (a zombie counts).
    fn exists(pid: u32) -> bool {
        Command::new("sh").args(["-c", &format!("kill -s 0 {pid}")]).stderr(Stdio::null()).status().unwrap().success()
    }

    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < end, "waited in vain: {what}");
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn output_exit_code_and_environment_come_through() {
        let dir = TempFolder::new("process").unwrap();
        let process = shell("echo out $A; echo err $B >&2; pwd; exit 7").env_clear().env("A", "a b").current_dir("/").start(dir.path()).unwrap();
        assert_eq!(process.wait_exit(DEADLINE).unwrap(), 7);
        assert!(!process.is_running());
        assert_eq!(process.log().unwrap(), "out a b\nerr\n/\n");
        assert!(process.signal(Signal::Term).is_err());
    }

    #[test]
    fn a_program_that_is_not_there_is_127() {
        let dir = TempFolder::new("process").unwrap();
        assert_eq!(Spec::new("/no/such/program").start(dir.path()).unwrap().wait_exit(DEADLINE).unwrap(), 127);
    }

    #[test]
    fn signals_reach_the_child() {
        let dir = TempFolder::new("process").unwrap();
        let killed = Spec::new("sleep").arg("1000").start(dir.path()).unwrap();
        assert!(killed.is_running() && exists(killed.pid()));
        killed.signal(Signal::Kill).unwrap();
        assert_eq!(killed.wait_exit(DEADLINE).unwrap(), 137);
        assert!(!exists(killed.pid()));
        let asked = Spec::new("sleep").arg("1000").start(dir.path()).unwrap();
        assert_ne!(asked.log_path(), killed.log_path());
        asked.signal(Signal::Term).unwrap();
        assert_eq!(asked.wait_exit(DEADLINE).unwrap(), 143);
    }

    #[test]
    fn a_drop_ends_even_a_stopped_or_deaf_child_and_removes_the_folder() {
        let dir = TempFolder::new("process").unwrap();
        let data = TempFolder::new("data").unwrap();
        let stopped = Spec::new("sleep").arg("1000").remove_at_end(data.path()).start(dir.path()).unwrap();
        stopped.signal(Signal::Stop).unwrap();
        let deaf = shell("trap '' TERM; echo ready; while :; do sleep 0.1; done").grace(Duration::from_secs(1)).start(dir.path()).unwrap();
        wait_until("the trap is set", || deaf.log().unwrap().contains("ready"));
        let pids = [stopped.pid(), deaf.pid()];
        assert_eq!(stopped.stop().unwrap(), 143);
        assert_eq!(deaf.stop().unwrap(), 137);
        assert!(pids.into_iter().all(|pid| !exists(pid)));
        assert!(!data.path().exists());
    }

    #[test]
    fn a_child_that_ends_by_itself_leaves_the_folder() {
        let dir = TempFolder::new("process").unwrap();
        let data = TempFolder::new("data").unwrap();
        let process = Spec::new("true").remove_at_end(data.path()).start(dir.path()).unwrap();
        process.wait_exit(DEADLINE).unwrap();
        assert!(data.path().exists());
    }

    #[test]
    fn a_panic_ends_the_child() {
        let dir = TempFolder::new("process").unwrap();
        let pid = std::sync::atomic::AtomicU32::new(0);
        let outcome = std::panic::catch_unwind(|| {
            let process = Spec::new("sleep").arg("1000").start(dir.path()).unwrap();
            pid.store(process.pid(), std::sync::atomic::Ordering::SeqCst);
            panic!("on purpose");
        });
        assert!(outcome.is_err());
        assert!(!exists(pid.into_inner()));
    }

    /// Not a check: the process that `a_killed_starter_takes_its_children_along` kills.
    #[test]
    #[ignore = "run by a_killed_starter_takes_its_children_along"]
    fn starter() {
        let dir = PathBuf::from(std::env::var_os("STARTER_FOLDER").unwrap());
        let data = dir.join("data");
        std::fs::create_dir(&data).unwrap();
        let first = Spec::new("sleep").arg("1000").name("first").start(&dir).unwrap();
        let second = Spec::new("sleep").arg("1000").name("second").remove_at_end(&data).start(&dir).unwrap();
        // Renamed, so that who waits for the file never sees half of it.
        std::fs::write(dir.join("new"), format!("{} {}", first.pid(), second.pid())).unwrap();
        std::fs::rename(dir.join("new"), dir.join("pids")).unwrap();
        second.wait_exit(Duration::from_secs(1000)).unwrap();
    }

    #[test]
    fn a_killed_starter_takes_its_children_along() {
        let dir = TempFolder::new("process").unwrap();
        for signal in ["KILL", "TERM"] {
            let folder = dir.path().join(signal);
            std::fs::create_dir(&folder).unwrap();
            let mut starter = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "process::tests::starter"])
                .env("STARTER_FOLDER", &folder)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            wait_until("the starter has started", || folder.join("pids").exists());
            let pids: Vec<u32> = std::fs::read_to_string(folder.join("pids")).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect();
            assert!(pids.len() == 2 && pids.iter().all(|pid| exists(*pid)));
            assert!(Command::new("sh").args(["-c", &format!("kill -s {signal} {}", starter.id())]).status().unwrap().success());
            starter.wait().unwrap();
            wait_until("the children end and the folder goes", || !pids.iter().any(|pid| exists(*pid)) && !folder.join("data").exists());
        }
    }
}
