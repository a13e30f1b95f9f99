//! What the command line does for somebody who sits before it: a shell completes its commands, and a long list shows that it goes on.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};
use testbed::{Emulator, TempFolder, aws};

use crate::support::{Said, root, run, says};

const BINARY: &str = env!("CARGO_BIN_EXE_robotosecret");

/// Runs a command with standard error on a terminal; prints what came on each.
const TERMINAL: &str = r#"
import json, os, pty, subprocess, sys
master, slave = pty.openpty()
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave)
os.close(slave)
out, said = process.stdout.read(), b""
try:
    while chunk := os.read(master, 4096):
        said += chunk
except OSError:
    pass
print(json.dumps([process.wait(), out.decode(), said.decode()]))
"#;

fn environment(emulator: &Emulator) -> [(&'static str, String); 5] {
    let keys = (aws::ACCESS_KEY_ID.to_owned(), aws::SECRET_ACCESS_KEY.to_owned());
    let region = ("AWS_REGION", aws::REGION.to_owned());
    [("AWS_ACCESS_KEY_ID", keys.0), ("AWS_SECRET_ACCESS_KEY", keys.1), region, ("AWS_ENDPOINT_URL", emulator.url()), ("TERM", "xterm".to_owned())]
}

/// What it prints, and what a terminal gets to see besides.
fn seen(emulator: &Emulator, term: &str, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new(testbed::moto::python().unwrap());
    command.args(["-c", TERMINAL, BINARY]).args(arguments).env_clear().envs(environment(emulator)).env("TERM", term);
    let Said { ok, out, err } = run(&mut command, "");
    assert!(ok, "{err}");
    let all: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(all[0], json!(0), "{all}");
    (all[1].as_str().unwrap().to_owned(), all[2].as_str().unwrap().to_owned())
}

#[test]
fn a_long_list_shows_how_far_it_is_on_a_terminal_and_nowhere_else() {
    let emulator = Emulator::start().unwrap();
    for number in 10..35 {
        emulator.put_parameter(&format!("/cAnArY/{number}"), "cAnArY");
    }
    emulator.put_secrets((10..22).map(|number| (format!("cAnArY/{number}"), "cAnArY".to_owned())));
    let list = ["list", "aws.ps:///cAnArY"];
    let (listed, said) = seen(&emulator, "xterm", &list);
    assert_eq!((listed.lines().count(), said.as_str()), (25, ""), "what is done at once needs no word");

    emulator.delay(Duration::from_millis(1_500), Duration::ZERO);
    for (arguments, expected) in [(&list[..], "10 found"), (&["list", "aws.sm://cAnArY/", "--values", "json"], "12 found, 0 read")] {
        let (printed, said) = seen(&emulator, "xterm", arguments);
        assert!(printed.contains("cAnArY/21"), "{printed}");
        says(&said, &format!("\r{expected}"));
        // One line, which is gone in the end; numbers alone; no codes.
        let lines: Vec<&str> = said.split('\r').collect();
        let longest = lines.iter().map(|line| line.trim_end().len()).max().unwrap();
        assert!(lines[0].is_empty() && lines[lines.len() - 1].is_empty() && lines[lines.len() - 2] == " ".repeat(longest), "{said:?}");
        assert!(!said.contains("cAnArY") && said.chars().all(|c| c == '\r' || c == ' ' || c == ',' || c.is_ascii_alphanumeric()), "{said:?}");
    }
    for term in ["dumb", ""] {
        assert_eq!(seen(&emulator, term, &list).1, "", "{term}");
    }
    let output = Command::new(BINARY).args(list).env_clear().envs(environment(&emulator)).output().unwrap();
    assert_eq!((output.status.success(), output.stdout.len(), output.stderr.len()), (true, listed.len(), 0), "into a pipe");
}

/// What bash offers for these words, the last of which is being typed, with the script that this program prints for itself.
fn offered(program: &str, words: &[&str]) -> Vec<String> {
    const PRESS: &str = r#"
source /dev/stdin
function_of=$(complete -p "$(basename "$1")" | sed 's/.*-F \([^ ]*\).*/\1/')
COMP_WORDS=("$(basename "$1")" "${@:2}"); COMP_CWORD=$(($# - 1))
"$function_of" "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
printf '%s\n' "${COMPREPLY[@]}"
"#;
    let script = run(Command::new(program).args(["completion", "bash"]), "");
    assert!(script.ok && script.err.is_empty(), "{}", script.err);
    let said = run(Command::new("bash").args(["--norc", "-c", PRESS, "bash", program]).args(words), &script.out);
    assert!(said.ok && said.err.is_empty(), "{}", said.err);
    said.out.lines().map(str::to_owned).collect()
}

#[test]
fn a_shell_completes_commands_and_options() {
    assert_eq!(offered(BINARY, &["ex"]), ["exists", "explain"]);
    assert_eq!(offered(BINARY, &["get", "aws.sm://a", "--pro"]), ["--profile"]);
    assert_eq!(offered(BINARY, &["list", "--values", ""]), ["json", "yaml"]);
    for command in ["create", "put"] {
        assert_eq!(offered(BINARY, &[command, "aws.ps://a", "--type", ""]), ["String", "StringList", "SecureString"]);
        assert_eq!(offered(BINARY, &[command, "aws.ps://a", "--tier", "A"]), ["Advanced"]);
    }
    let all = offered(BINARY, &[""]);
    for verb in ["get", "list", "completion", "status"] {
        assert!(all.iter().any(|offer| offer == verb), "{verb}: {all:?}");
    }
    for shell in ["elvish", "fish", "powershell", "zsh"] {
        let script = run(Command::new(BINARY).args(["completion", shell]), "");
        assert!(script.ok && script.out.contains("describe") && script.out.contains("robotosecret"), "{shell}");
    }
    let said = run(Command::new(BINARY).args(["completion", "csh"]), "");
    says(&said.err, "one of bash, elvish, fish, powershell, zsh");
    assert!(!said.ok && said.out.is_empty());
    // Whoever needs but the beginning closes the pipe.
    let mut closed = Command::new("bash");
    let said = run(closed.args(["-c", "set -o pipefail; \"$0\" completion zsh | head -1", BINARY]), "");
    assert!(said.ok && said.err.is_empty() && said.out.starts_with("#compdef robotosecret"), "{} {}", said.out, said.err);
}

#[test]
fn the_plugin_is_completed_by_itself_and_through_kubectl() {
    let folder = TempFolder::new("plugin").unwrap();
    let plugin = folder.path().join("kubectl-robotosecret");
    std::os::unix::fs::symlink(BINARY, &plugin).unwrap();
    assert_eq!(offered(plugin.to_str().unwrap(), &["ex"]), ["explain"]);
    // kubectl runs what is called so, with all words, and reads lines; the document has it.
    let text = std::fs::read_to_string(root().join("docs/kubectl.md")).unwrap();
    let script = text.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let asks = |words: &[&str]| run(Command::new("bash").args(["-c", script, "kubectl_complete-robotosecret"]).args(words).env("PATH", &path), "");
    let said = asks(&["ex"]);
    assert_eq!((said.ok, said.out.as_str()), (true, "explain\n:4\n"), "{}", said.err);
    assert_eq!(asks(&["refresh", "--al"]).out, "--all\n--all-namespaces\n:4\n");
}
