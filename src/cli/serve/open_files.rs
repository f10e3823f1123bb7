//! How many files the process may have open, connections among them: where connections alone could use them up, nothing that needs a
//! file would work any more, neither an upload nor a model that is to be loaded.

use std::io;

use crate::config::ConnectionsConfig;

/// More are of no use here.
const WANTED: u64 = 1 << 16;

/// What is kept for all but connections: the database, uploads, downloads, models, pictures, children.
const OTHERS: u64 = 256;

/// Has the system allow as many open files as it lets us ask for, and leaves room for those that are no connections. A child begins
/// with the same limit, which does it no harm.
pub fn make_room(connections: &mut ConnectionsConfig) {
    let files = match raise() {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "how many files may be open cannot be found out");
            return;
        }
    };
    let most = beside_others(files);
    if most < connections.most {
        tracing::warn!(
            files,
            connections = most,
            "few files may be open at once (ulimit -n, LimitNOFILE), so that fewer connections are taken than the usual {}",
            connections.most
        );
        connections.most = most;
    }
}

/// Connections that `files` leave room for. Of very few each gets half.
fn beside_others(files: u64) -> usize {
    let most = files - OTHERS.min(files / 2);
    usize::try_from(most).unwrap_or(usize::MAX).max(1)
}

/// Raises the soft limit as far as the hard one; gives what it is then.
fn raise() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it is written to, and lives for longer than the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = limit.rlim_max.min(WANTED);
    if wanted <= limit.rlim_cur {
        return Ok(limit.rlim_cur);
    }
    let raised = libc::rlimit { rlim_cur: wanted, ..limit };
    // SAFETY: it is only read, and lives for longer than the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } {
        0 => Ok(wanted),
        _ => Ok(limit.rlim_cur),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_all_else() {
        for (files, connections) in [(1 << 16, (1 << 16) - 256), (1024, 768), (300, 150), (2, 1), (0, 1)] {
            assert_eq!(beside_others(files), connections, "{files}");
        }
    }
}
