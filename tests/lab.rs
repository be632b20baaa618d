//! The first command of the README, as a new user without a terminal would run it: six real servers, a story, nothing
//! lost.

use std::process::{Command, Output, Stdio};

const TRESTLE: &str = env!("CARGO_BIN_EXE_trestle");

fn lab(args: &[&str]) -> Output {
    let mut command = Command::new(TRESTLE);
    command.args(["lab", "stretch", "--base-port", "0"]).args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::null()).output().unwrap()
}

/// The servers say so themselves when the machine does not let them use io_uring; then there is nothing to test here.
fn lacks_io_uring(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    let lacks = !output.status.success() && text.contains("io_uring");
    if lacks {
        println!("skipped: this machine has no io_uring: {text}");
    }
    lacks
}

#[test]
fn a_killed_leader_and_a_partition_lose_nothing() {
    let story = "kill-leader,restart,partition-dc:1,heal";
    // A pace that six unoptimised servers keep beside other tests.
    let output = lab(&["--rate", "300", "--seconds", "12", "--script", story]);
    if lacks_io_uring(&output) {
        return;
    }
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    let verdict = text.lines().find(|line| line.starts_with("acknowledged ")).unwrap_or_else(|| panic!("{text}"));
    assert!(verdict.ends_with("missing 0  doubled 0  out of order 0"), "{text}");
    let words: Vec<&str> = verdict.split_whitespace().collect();
    assert_eq!(words[1], words[3], "acknowledged and found: {verdict}");
    assert!(words[1].parse::<u64>().unwrap() > 300, "hardly anything was acknowledged: {verdict}");
    for event in ["(leader): ", "started ", "cut data center 1 off", "healed: all current"] {
        assert!(text.contains(event), "{event:?} in {text}");
    }
}

#[test]
fn mistakes_are_explained() {
    for (args, why) in [
        (&["--script", "dance"][..], "unknown action \"dance\""),
        (&["--script", "kill:nobody"], "--script kill:nobody: there is no server nobody: us_1, "),
        (&["--script", "heal,partition-dc:9"], "--script partition-dc:9: there is no data center 9"),
        (&["--config-dir", "no/such/folder"], "no configurations in no/such/folder"),
    ] {
        let output = lab(args);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(why), "{text}");
    }
    let help = Command::new(TRESTLE).args(["lab", "--help"]).output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("--script A,B,..."));
}
