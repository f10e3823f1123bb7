//! `mixmatch export`: a published model as plain files, to keep, to hand on, or to load elsewhere. It only reads the data
//! directory, so it may run beside a server.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use tempfile::{NamedTempFile, TempPath};

use super::DataArgs;
use super::output::print_line;
use crate::report::Card;
use crate::sha256;
use crate::store::{Store, VersionRow};

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    data: DataArgs,
    /// gender (its champion), gender@alias, or gender:3.
    #[arg(long)]
    model: String,
    /// The directory to write into, which is made; files that are there already are never overwritten.
    #[arg(long)]
    to: PathBuf,
}

/// Writes the weights, `model.json` and the card, and says where.
pub async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let store = args.data.open_models().await?;
    let row = store.resolve_model(&args.model).await?;
    let weights = artifact(&store, &row.weights_sha256)?;
    let manifest = artifact(&store, &row.manifest_sha256)?;
    store.close().await;
    let card = card(&row, &manifest)?;
    let files = [
        ("weights.safetensors", weights),
        ("model.json", manifest),
        ("card.md", card.markdown().into_bytes()),
        ("card.json", serde_json::to_vec_pretty(&card)?),
    ];
    write(&args.to, &files).with_context(|| format!("the model cannot be written to {}", args.to.display()))?;
    print_line(format_args!("{}:{} is in {}", row.name, row.version, args.to.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// A file by its hash, and no other.
fn artifact(store: &Store, hash: &str) -> anyhow::Result<Vec<u8>> {
    let path = store.artifact(hash);
    let bytes = std::fs::read(&path).with_context(|| format!("a file of the model is gone: {}", path.display()))?;
    ensure!(sha256::of(&bytes) == hash, "a file of the model is damaged: {} has another hash", path.display());
    Ok(bytes)
}

fn card(row: &VersionRow, manifest: &[u8]) -> anyhow::Result<Card> {
    let manifest = serde_json::from_slice(manifest).context("the model's description cannot be read")?;
    Ok(Card::new(&row.name, row.version, &row.weights_sha256, manifest))
}

/// All of the files, or none: where one of them is there already, and where one cannot be written.
fn write(directory: &Path, files: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, _) in files {
        let path = directory.join(name);
        ensure!(!path.exists(), "{} is there already; name a new directory", path.display());
    }
    let mut staged = Vec::new();
    for (name, bytes) in files {
        let path = directory.join(name);
        let file = stage(directory, bytes).with_context(|| path.display().to_string())?;
        staged.push((path, file));
    }
    name_all(directory, staged)
}

/// A file that is whole on the disk, under a temporary name, which goes with it where it is dropped.
fn stage(directory: &Path, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    // As other files that somebody makes: a temporary one would be its owner's alone.
    let rights = Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(rights).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Gives each file its name, unless something has that by now. Where one cannot have it, the others lose theirs again.
fn name_all(directory: &Path, staged: Vec<(PathBuf, NamedTempFile)>) -> anyhow::Result<()> {
    let mut named = Vec::new();
    for (path, file) in staged {
        let of_it = || path.display().to_string();
        let removed_with_us = file
            .persist_noclobber(&path)
            .map_err(|refused| refused.error)
            .and_then(|_file| TempPath::try_from_path(&path))
            .with_context(of_it)?;
        named.push(removed_with_us);
    }
    File::open(directory).and_then(|names| names.sync_all()).with_context(|| directory.display().to_string())?;
    for path in named {
        path.keep()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_then_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("new/model");
        write(&to, &[("a", b"1".to_vec()), ("b", b"2".to_vec())]).unwrap();
        assert_eq!(std::fs::read(to.join("b")).unwrap(), b"2");
        std::fs::remove_file(to.join("a")).unwrap();
        let error = write(&to, &[("a", b"3".to_vec()), ("b", b"4".to_vec())]).unwrap_err();
        assert!(error.to_string().contains("b is there already"), "{error}");
        assert!(!to.join("a").exists());
    }

    #[test]
    fn a_failure_leaves_nothing_and_the_next_try_succeeds() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("model");
        // There is no such directory for the last one.
        let error = write(&to, &[("a", b"1".to_vec()), ("none/b", b"2".to_vec())]).unwrap_err();
        assert!(error.to_string().contains("none/b"), "{error}");
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
        write(&to, &[("a", b"1".to_vec()), ("b", b"2".to_vec())]).unwrap();
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 2);
        std::fs::write(directory.path().join("plain"), b"").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&to.join("a")), mode(&directory.path().join("plain")), "others may read it as any file");
    }
}
