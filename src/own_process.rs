//! Tests in a process of their own: for what a process settles once, and for what other tests beside it would disturb.

use std::process::{Command, Output};

/// Runs the test of that whole name alone, with these variables in its environment; it must pass.
pub fn run(name: &str, environment: &[(&str, &str)]) -> Output {
    let mut alone = Command::new(std::env::current_exe().unwrap());
    let output = alone.args(["--exact", name]).envs(environment.iter().copied()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{environment:?}: {told}");
    output
}
