//! `mixmatch export`: a published model as plain files, to keep, to hand on, or to load elsewhere. It only reads the data
//! directory, so it may run beside a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;

use super::DataArgs;
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
    println!("{}:{} is in {}", row.name, row.version, args.to.display());
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

/// All of the files, or none where one of them is there already.
fn write(directory: &Path, files: &[(&str, Vec<u8>)]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, _) in files {
        let path = directory.join(name);
        ensure!(!path.exists(), "{} is there already; name a new directory", path.display());
    }
    for (name, bytes) in files {
        let path = directory.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
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
}
