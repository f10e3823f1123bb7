//! `mixmatch backup` and `mixmatch restore`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::DataArgs;
use super::output::{print_line, tell};
use super::signals::{Signals, end_with_the_reader, leave};
use crate::backup::{self, Copied, Index};
use crate::data_dir::DataDir;
use crate::store::{KeyRow, Store};

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(flatten)]
    data: DataArgs,
    /// A directory that is empty or does not exist yet. On the same file system, files are hard links and need no room.
    #[arg(long)]
    to: PathBuf,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A directory that `mixmatch backup` wrote.
    #[arg(long)]
    from: PathBuf,
    #[command(flatten)]
    data: DataArgs,
}

/// Copies a data directory, beside a server or not.
pub async fn backup(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(args.data.data_dir);
    anyhow::ensure!(data.database().exists(), "{} holds nothing to back up", data.root().display());
    let stop = stop_by_signal()?;
    let (index, copied) = backup::backup(&data, &args.to, &stop).await?;
    stop.cancel();
    report("backed up", &index, copied)?;
    tell(format_args!("verified; put it back with: mixmatch restore --from {} --data-dir NEW", args.to.display()));
    Ok(ExitCode::SUCCESS)
}

/// Puts a backup into a new data directory.
pub async fn restore(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(args.data.data_dir);
    let stop = stop_by_signal()?;
    let (index, copied) = backup::restore(&args.from, &data, &stop).await?;
    stop.cancel();
    let store = Store::open_beside(&data).await?;
    let live: Vec<String> = store.keys().await?.iter().filter(|key| key.is_live()).map(name_of).collect();
    store.close().await;
    if !live.is_empty() {
        // Whoever took one back after the backup was made believes that it opens nothing.
        tell(format_args!(
            "these API keys open it, those too that were revoked since the backup (`mixmatch keys revoke` them again): {}",
            live.join(", ")
        ));
    }
    report("restored", &index, copied)?;
    tell(format_args!("verified; serve it with: mixmatch serve --data-dir {}", data.root().display()));
    Ok(ExitCode::SUCCESS)
}

/// What a copy is asked to stop by, which removes then what it has made. Whoever sees it whole cancels this, too: from then on a signal ends
/// the process as ever.
fn stop_by_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    // The copy blocks the thread that it is made on.
    tokio::spawn(heed(Signals::new()?, stop.clone()));
    Ok(stop)
}

async fn heed(mut signals: Signals, stop: CancellationToken) {
    tokio::select! {
        () = signals.wait() => {
            tell("asked to stop: what was copied is removed again, after the file under way");
            stop.cancel();
            signals.wait_for_another().await;
            tell("asked to stop again: ending at once; what was copied by then stays and can be removed");
        }
        () = stop.cancelled() => signals.wait().await,
    }
    leave(130)
}

fn name_of(key: &KeyRow) -> String {
    format!("{} ({}, {})", key.name, key.prefix, key.scope)
}

/// Prints what was copied; that is done by now, so that a reader who has gone keeps nothing from being done.
fn report(what: &str, index: &Index, copied: Copied) -> anyhow::Result<()> {
    end_with_the_reader();
    let mebibytes = copied.bytes as f64 / f64::from(1 << 20);
    print_line(format_args!(
        "{what} the state of {:.0}: {} files, {mebibytes:.1} MiB, {} of them hard links",
        index.taken_at, copied.files, copied.linked
    ))
}
