//! What ends a command from outside, and what its output's end means.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What comes so soon after the first signal is the same wish: `timeout`, `make` and a service manager send theirs to the process
/// and to its group, and a terminal's Ctrl-C reaches it beside them. A person who asks again takes longer.
const SAME_WISH: Duration = Duration::from_secs(2);

/// Ends the process without destructors: a thread may be inside libtorch, and a regular exit would crash there.
pub(super) fn leave(code: libc::c_int) -> ! {
    // SAFETY: nothing runs after it.
    unsafe { libc::_exit(code) }
}

/// The signals that ask for an orderly end.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
    /// Those of standard input, output and error that are a terminal.
    terminals: Vec<libc::c_int>,
    /// When the first came.
    first: Option<Instant>,
}

impl Signals {
    /// SIGTERM, SIGINT, and SIGHUP, with which a terminal goes, unless whoever started this (`nohup`) has it ignored. Where there is no
    /// terminal, SIGHUP mostly means that a log is to be opened anew (`logrotate`), and is ignored from here on.
    pub(super) fn new() -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        // Asked when it has gone, none is.
        // SAFETY: isatty only looks at the descriptor.
        let terminals: Vec<_> = (0..=2).filter(|&fd| unsafe { libc::isatty(fd) } == 1).collect();
        if terminals.is_empty() {
            // SAFETY: sets a signal's disposition.
            unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        }
        let hang_up = if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { terminate, interrupt, hang_up, terminals, first: None })
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
        self.first.get_or_insert_with(Instant::now);
        if gone {
            self.hang_up = None;
            write_nowhere(&self.terminals);
        }
    }

    /// What was asked for is under way; the last signal is the first of the next wish.
    pub(super) fn begin_anew(&mut self) {
        self.first = Some(Instant::now());
    }

    /// Waits for one that is not the same wish as the first.
    pub(super) async fn wait_for_another(&mut self) {
        loop {
            let first = self.first;
            self.wait().await;
            if is_another(first, Instant::now()) {
                return;
            }
        }
    }
}

/// Whether a signal that comes now says more than the first one did.
fn is_another(first: Option<Instant>, now: Instant) -> bool {
    first.is_some_and(|first| now.duration_since(first) >= SAME_WISH)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_at_once_is_the_same_wish() {
        let first = Instant::now();
        let after = |milliseconds| first + Duration::from_millis(milliseconds);
        assert!(!is_another(None, first), "a stop that no signal began");
        assert!(!is_another(Some(first), first) && !is_another(Some(first), after(1_999)));
        assert!(is_another(Some(first), after(2_000)));
    }

    #[tokio::test]
    async fn signals_of_one_stop_are_one_and_a_later_one_is_another() {
        // SAFETY: a handler is there since `Signals::new`, so that the signal ends nothing.
        let raise = |number| assert_eq!(unsafe { libc::raise(number) }, 0);
        let mut signals = Signals::new().unwrap();
        raise(libc::SIGTERM);
        signals.wait().await;
        raise(libc::SIGTERM);
        raise(libc::SIGINT);
        let soon = tokio::time::timeout(Duration::from_millis(200), signals.wait_for_another()).await;
        assert!(soon.is_err(), "the same stop");
        signals.first = Some(Instant::now().checked_sub(SAME_WISH).unwrap());
        raise(libc::SIGTERM);
        tokio::time::timeout(Duration::from_secs(20), signals.wait_for_another()).await.unwrap();
    }
}
