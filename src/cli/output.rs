//! Where a command writes: results to standard output, everything else to standard error. Nothing here panics where that cannot be
//! written to, as `println!` and `eprintln!` do.

use std::fmt::Display;
use std::io::Write;

use anyhow::Context;

/// Writes a result.
///
/// # Errors
/// It goes to a disk that is full, or to nobody any more.
pub(super) fn print(result: impl Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{result}").and_then(|()| out.flush()).context("the result cannot be written to standard output")
}

/// Writes a line of a result.
///
/// # Errors
/// As [`print`].
pub(super) fn print_line(line: impl Display) -> anyhow::Result<()> {
    print(format_args!("{line}\n"))
}

/// Tells somebody who may have gone: what is under way goes on all the same.
pub(super) fn tell(words: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}
