//! What ends a command from outside, and what its output's end means.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask for an orderly end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
    /// Those of standard input, output and error that are a terminal.
    terminals: Vec<libc::c_int>,
}

impl Signals {
    /// SIGTERM, SIGINT, and SIGHUP, with which a terminal goes, unless whoever started this (`nohup`) has it ignored.
    pub(super) fn new() -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hang_up = if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        // Asked when it has gone, none is.
        // SAFETY: isatty only looks at the descriptor.
        let terminals = (0..=2).filter(|&fd| unsafe { libc::isatty(fd) } == 1).collect();
        Ok(Self { terminate, interrupt, hang_up, terminals })
    }

    /// Waits for one of them. A terminal that goes may send two of its own: the second is none to hurry for.
    pub(super) async fn wait(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        let gone = tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = hang_up => true,
        };
        if gone {
            self.hang_up = None;
            write_nowhere(&self.terminals);
        }
    }
}

/// What is written to a terminal that has gone is an error, for which `eprintln!` panics.
fn write_nowhere(terminals: &[libc::c_int]) {
    let Ok(nowhere) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    for &terminal in terminals {
        // SAFETY: both descriptors are open, and nobody holds the terminal's as a resource of its own.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&nowhere), terminal) };
    }
}

fn hang_up_is_ignored() -> bool {
    // SAFETY: an all-zero sigaction is a valid one, and a null new action leaves the disposition as it is.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// From here on a reader that has seen enough (`| head`) ends the process without a word, as it does every other program of
/// a shell; Rust would panic. Not where children are at work: a write to one that has just died would end us, too.
pub(super) fn end_with_the_reader() {
    // SAFETY: sets a signal's disposition to what it was before Rust's runtime changed it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
