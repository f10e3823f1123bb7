//! `mixmatch import`: the same import as `POST /datasets`, without a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::audited::audited;
use super::output::{print_line, tell};
use super::{DataArgs, ImageArgs, with_causes};
use crate::data_dir::{DataDir, DataDirError};
use crate::dataset::{ImportError, ImportLimits, ImportRequest, Imported, RejectedRow, Unlisted, import};
use crate::store::{NewDataset, Store};

/// Left-out rows that are printed; `--json` prints all that are listed.
const ROWS_PRINTED: usize = 20;

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The data set's name.
    #[arg(long)]
    name: String,
    /// What the labels mean: gender, mask, any word. Also the name of the model that learns from it.
    #[arg(long)]
    task: String,
    /// A ZIP of images.
    #[arg(long)]
    images: PathBuf,
    /// The training sheet, CSV or XLSX; an empty label means unlabelled.
    #[arg(long)]
    train: PathBuf,
    /// The test sheet.
    #[arg(long)]
    test: Option<PathBuf>,
    /// The column with the image's name, where it is not found by itself.
    #[arg(long)]
    image_column: Option<String>,
    /// The column with the label.
    #[arg(long)]
    label_column: Option<String>,
    /// The column that says what belongs together, such as a person.
    #[arg(long)]
    group_column: Option<String>,
    /// The column that says which images were picked to be labelled (yes, 1, x) and not drawn at random, where it is not called
    /// picked: those train, but neither validate nor tell the classes' shares.
    #[arg(long)]
    picked_column: Option<String>,
    /// What becomes of images that no sheet names: ignore leaves them out, unlabelled learns from them without label.
    #[arg(long, value_name = "CHOICE", default_value = "ignore")]
    unlisted: Unlisted,
    /// Refuse the whole data set if any row is bad, or any image that no sheet names where they are learned from.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    image: ImageArgs,
    /// Print the result, or why there is none with every row that was left out, as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was imported.
struct Kept {
    id: Uuid,
    imported: Imported,
    seconds: f64,
}

/// Imports.
pub async fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    for (field, value) in [("name", &args.name), ("task", &args.task)] {
        if let Err(detail) = crate::api::check_name(field, value) {
            if args.json {
                print_line(why_not("invalid_value", &detail, &[]))?;
            }
            tell(format_args!("mixmatch: {detail}"));
            return Ok(ExitCode::from(2));
        }
    }
    let data = DataDir::new(args.data.data_dir.clone());
    let is_new = !data.database().exists();
    let (_lock, store) = crate::api::open_rooms(&data).await.inspect_err(|error| print_refusal(error, args.json))?;
    if is_new {
        tell(format_args!("{} is a new data directory; --data-dir names another one", whole(data.root()).display()));
    }
    let (name, json) = (args.name.clone(), args.json);
    let created = |kept: &Kept| Some(format!("/datasets/{}", kept.id));
    let kept = audited(&store, "import", &name, created, keep(&store, &data, args)).await;
    store.close().await;
    match kept {
        Ok(kept) if json => print_line(as_json(&name, &kept))?,
        Ok(kept) => print_report(&name, &kept, data.root())?,
        Err(error) => {
            print_refusal(&error, json);
            return Err(error);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The files, then their row.
async fn keep(store: &Store, data: &DataDir, args: ImportArgs) -> anyhow::Result<Kept> {
    if store.dataset(&args.name).await.is_ok() {
        let detail = format!("a data set named {:?} exists; choose another name", args.name);
        return Err(ImportError::Invalid { field: Some("name".to_owned()), code: "taken", detail }.into());
    }
    let id = Uuid::now_v7();
    store.expect_dataset(id).await?;
    let destination = data.dataset(id);
    let request = ImportRequest {
        task: args.task.clone(),
        images: args.images,
        train: args.train,
        test: args.test,
        image_column: args.image_column,
        label_column: args.label_column,
        group_column: args.group_column,
        picked_column: args.picked_column,
        unlisted: args.unlisted,
        strict: args.strict,
    };
    let limits = ImportLimits { image: args.image.limits(), ..ImportLimits::default() };
    let (target, began) = (destination.clone(), Instant::now());
    let outcome = tokio::task::spawn_blocking(move || {
        let bar = ProgressBar::new(0).with_style(
            ProgressStyle::with_template("decoding {bar:32} {human_pos}/{human_len} images, {per_sec}, {eta} left")
                .expect("the template is constant"),
        );
        let report = |progress: crate::dataset::ImportProgress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
        };
        let outcome = import(&request, &limits, &target, &report);
        bar.finish_and_clear();
        outcome
    })
    .await?;
    let seconds = began.elapsed().as_secs_f64();
    let imported = outcome.map_err(with_options)?;
    let new =
        NewDataset { id, name: args.name, task: args.task, manifest: &imported.manifest, report: &imported.report };
    if let Err(error) = store.insert_dataset(new).await {
        let _ = std::fs::remove_dir_all(&destination);
        return Err(error.into());
    }
    Ok(Kept { id, imported, seconds })
}

/// The path from the root on: whoever reads it later may be elsewhere.
fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The same refusal with its words as [`in_options`] has them.
fn with_options(mut error: ImportError) -> ImportError {
    if let ImportError::Invalid { detail, .. } | ImportError::Rows { detail, .. } = &mut error {
        *detail = in_options(detail);
    }
    error
}

/// The importer names what mends it by the fields of `POST /datasets`; here they are options.
fn in_options(detail: &str) -> String {
    let mut detail = detail.to_owned();
    for column in ["image", "label", "group", "picked"] {
        // With the words before it: a sheet's own column may be called so.
        for words in ["name it", "name another one", "name another column", "name the right one"] {
            let (field, option) = (format!("{words} in {column}_column"), format!("{words} with --{column}-column"));
            detail = detail.replace(&field, &option);
        }
    }
    detail
        .replace("set unlisted to ignore", "leave out --unlisted")
        .replace("where unlisted is unlabelled", "with --unlisted unlabelled")
}

fn as_json(name: &str, Kept { id, imported, seconds }: &Kept) -> serde_json::Value {
    serde_json::json!({
        "id": id,
        "name": name,
        "task": imported.manifest.task,
        "classes": imported.manifest.classes,
        "counts": imported.manifest.counts(),
        "report": imported.report,
        "seconds": seconds,
    })
}

fn print_report(name: &str, Kept { id, imported, .. }: &Kept, directory: &Path) -> anyhow::Result<()> {
    let counts = imported.manifest.counts();
    print_line(format_args!("imported {name} ({id}) into {}", whole(directory).display()))?;
    for class in &imported.manifest.classes {
        let of = |split: &std::collections::BTreeMap<String, u64>| split.get(class).copied().unwrap_or(0);
        print_line(format_args!("  {class}: {} train, {} test", of(&counts.train), of(&counts.test)))?;
    }
    print_line(format_args!("  unlabelled: {}", counts.unlabelled))?;
    if counts.picked > 0 {
        print_line(format_args!("  picked, and so not for validation: {}", counts.picked))?;
    }
    print_rejected(&imported.report.rejected, imported.report.rejected_rows as usize);
    for warning in &imported.report.warnings {
        tell(format_args!("warning ({}): {}", warning.code, in_options(&warning.detail)));
        warning.examples.iter().for_each(|example| tell(format_args!("  {example}")));
    }
    Ok(())
}

/// The rows that are to blame, and for a program all of what is said: the words themselves come last, as those of every error.
fn print_refusal(error: &anyhow::Error, json: bool) {
    let refusal = error.downcast_ref::<ImportError>();
    let rows: &[RejectedRow] = match refusal {
        Some(ImportError::Rows { rejected, left_out, .. }) => {
            print_rejected(rejected, *left_out);
            rejected
        }
        _ => &[],
    };
    let code = match (refusal, error.downcast_ref::<DataDirError>()) {
        (Some(refusal), _) => refusal.code(),
        (None, Some(DataDirError::Held { .. })) => "in_use",
        (None, _) => "failed",
    };
    if json {
        // Where it cannot be printed, the words of the error are still to come.
        let _ = print_line(why_not(code, &with_causes(error), rows));
    }
}

fn why_not(code: &str, detail: &str, rejected: &[RejectedRow]) -> serde_json::Value {
    serde_json::json!({"code": code, "detail": detail, "rejected": rejected})
}

/// Of `all` rows that were left out, those that are listed.
fn print_rejected(listed: &[RejectedRow], all: usize) {
    for row in listed.iter().take(ROWS_PRINTED) {
        tell(format_args!("left out: {} {}: {}", row.place(), row.image, row.detail));
    }
    if all > ROWS_PRINTED {
        tell(format_args!("left out: {} more", all - ROWS_PRINTED));
    }
}
