//! libtorch's threads, which are OpenMP's: how many a thread of ours computes with, and what they do while they wait.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Threads that wait spin for the microseconds that lie between two operations of a small network, since to be woken costs more than
/// most of those take, and then sleep. By libgomp's own rule they spin for milliseconds more after each answer, on all cores: beside a busy
/// neighbour an answer mostly took 15 to 65 times as long, and on a machine of its own a tenth less (docs/experiments.md, "The training step").
pub const WAITING: [(&str, &str); 2] = [("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "1000")];

/// What computes; everything else is not worth loading libtorch twice.
const COMPUTES: [&str; 5] = ["serve", "demo", "predict", "test", "bench"];

/// Whether the environment says how threads wait, be it that this program has put it there.
pub fn is_told() -> bool {
    WAITING.iter().any(|(name, _)| std::env::var_os(name).is_some())
}

/// Has this process wait as [`WAITING`] says, unless its environment says how. libgomp reads that before `main`, so the program starts
/// once more in its place. To be called before anything else.
pub fn wait_as_we_do() {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let computes = args.any(|word| word.to_str().is_some_and(|word| COMPUTES.contains(&word)));
    if is_told() || !computes {
        return;
    }
    // By its own path and not /proc/self/exe, after which `ps` would call it "exe".
    let Ok(program) = std::env::current_exe() else { return };
    if is_loader(&program) {
        // It was given the program, and would now look for one called `serve`.
        return;
    }
    // Comes back where that cannot be; as it is, the program computes the same.
    let _refused = Command::new(program).arg0(name).args(std::env::args_os().skip(1)).envs(WAITING).exec();
}

/// Whether this is the system's loader (`ld-linux-x86-64.so.2`, `ld-2.31.so`), which runs a program that it is given.
fn is_loader(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld-"))
}

/// Has the calling thread compute with so many threads. libtorch keeps that number for each thread and for the whole process, and gives a
/// thread that looks for the first time the latter, whatever it was told itself: so it looks first.
pub fn compute_with(threads: i32) {
    let _first_look = tch::get_num_threads();
    tch::set_num_threads(threads);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_loader_is_none_of_our_names() {
        for loader in ["/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "/lib/ld-2.31.so"] {
            assert!(is_loader(Path::new(loader)), "{loader}");
        }
        for program in ["/opt/mixmatch/mixmatch", "/nix/store/abc/bin/.mixmatch-wrapped", "/opt/ld-/mixmatch-old"] {
            assert!(!is_loader(Path::new(program)), "{program}");
        }
    }

    #[test]
    fn what_another_thread_computes_with_is_its_own_business() {
        let (there, is_there) = channel();
        let (go, goes) = channel::<()>();
        let first = std::thread::spawn(move || {
            compute_with(2);
            there.send(()).unwrap();
            goes.recv().unwrap();
            tch::get_num_threads()
        });
        is_there.recv().unwrap();
        std::thread::spawn(|| compute_with(1)).join().unwrap();
        go.send(()).unwrap();
        assert_eq!(first.join().unwrap(), 2);
    }
}
