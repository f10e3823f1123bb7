//! The one binary: see `mixmatch --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A write beyond a limit on files' sizes (`ulimit -f`) is to fail, as on a full disk, and not to end the process; nor a child, to which
    // this is handed down.
    // SAFETY: sets a signal's disposition.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    mixmatch::openmp::wait_as_we_do();
    // A child may be asked to stop while the CUDA libraries are still being loaded.
    if std::env::args_os().nth(1).is_some_and(|word| word == "work") {
        mixmatch::worker::child::heed_sigterm();
    }
    // Before anything else may touch libtorch: asked about CUDA too early, it answers "none" for good.
    let cuda = mixmatch::nn::device::preload_cuda();
    mixmatch::cli::main(cuda)
}
