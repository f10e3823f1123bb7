//! What ends a command from outside, and what its output's end means.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask for an orderly end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// SIGTERM and SIGINT: of a service, which outlives the terminal that it was started from.
    pub(super) fn of_service() -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hang_up: None })
    }

    /// And SIGHUP: of a command that belongs to its terminal.
    pub(super) fn of_command() -> std::io::Result<Self> {
        Ok(Self { hang_up: Some(signal(SignalKind::hangup())?), ..Self::of_service()? })
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

/// From here on a reader that has seen enough (`| head`) ends the process without a word, as it does every other program of
/// a shell; Rust would panic. Not where children are at work: a write to one that has just died would end us, too.
pub(super) fn end_with_the_reader() {
    // SAFETY: sets a signal's disposition to what it was before Rust's runtime changed it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
