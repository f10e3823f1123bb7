//! The one binary: see `mixmatch --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else may touch libtorch: asked about CUDA too early, it answers "none" for good.
    let cuda = mixmatch::nn::device::preload_cuda();
    mixmatch::cli::main(cuda)
}
