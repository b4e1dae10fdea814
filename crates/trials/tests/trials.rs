//! The fixed, short part of the trials. The long runs are commands; see `docs/testing.md`.

use std::process::Command;

/// Runs one trial and gives the line of counts.
fn trial(arguments: &[&str]) -> String {
    let program = env!("CARGO_BIN_EXE_highwater-trials");
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}{complaint}");
    print!("{said}");
    said
}

#[test]
fn killed_processes_lose_nothing_that_was_acknowledged() {
    let said = trial(&["kills", "--cycles", "30"]);
    assert!(said.contains("30 cycles") && said.contains("0 lost"), "{said}");
    assert!(!said.contains(" 0 commits acknowledged"), "{said}");
}

#[test]
fn of_two_processes_one_owns_the_database() {
    let said = trial(&["race", "--rounds", "24"]);
    assert!(said.contains("24 rounds, one owner in each"), "{said}");
}

#[test]
fn a_process_reads_beside_a_writer() {
    let said = trial(&["reader", "--seconds", "2"]);
    assert!(said.contains("none wrong"), "{said}");
}

#[test]
fn a_full_disk_is_survived() {
    let said = trial(&["full", "--size", "12"]);
    assert!(said.contains("0 lost") || said.contains("left out"), "{said}");
}

#[test]
fn memory_may_end_anywhere() {
    let said = trial(&["memory", "--stride", "97"]);
    assert!(said.contains("0 lost, 0 panics, 0 refused"), "{said}");
}
