//! What ends a command from outside, and what its output's end means.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask for an orderly end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// SIGTERM, SIGINT, and SIGHUP, with which a terminal goes, unless whoever started this (`nohup`) has it ignored.
    pub(super) fn new() -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hang_up = if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate, interrupt, hang_up })
    }

    /// Waits for one of them.
    pub(super) async fn wait(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = hang_up => {}
        }
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
