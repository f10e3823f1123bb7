//! `mixmatch import-weights`: weights to start from, out of a safetensors file or a PyTorch `.pth`.
//!
//! This is a process of its own and never the server: whatever a stranger's pickle may hold, it meets a reader that
//! runs nothing of it (`nn::pth`), in a process that serves nobody and ends with the import.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Args};

use super::DataArgs;
use super::audited::audited;
use super::output::print_line;
use super::signals::end_with_the_reader;
use crate::data_dir::DataDir;
use crate::nn::pretrained::{Contents, NamedTensors, SafeTensorsFile, import, network_of};
use crate::nn::pth::StateDict;
use crate::sha256;
use crate::store::{NewPretrained, PretrainedRow};

/// Arguments of `import-weights`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("into").required(true)))]
pub struct ImportWeightsArgs {
    #[command(flatten)]
    data: DataArgs,
    /// A .safetensors file, or a .pth with a state dict of tensors.
    file: PathBuf,
    /// What jobs will call them in `pretrained`. This or --output.
    #[arg(long, group = "into")]
    name: Option<String>,
    /// The network that they are for. [default: what the file says, as ours do, else wide_resnet50_2]
    #[arg(long)]
    network: Option<String>,
    /// Only write the checked weights to this safetensors file; a running server takes it with
    /// PUT /pretrained/NAME. This or --name.
    #[arg(long, group = "into")]
    output: Option<PathBuf>,
}

/// Checks, converts and keeps.
pub async fn run(args: ImportWeightsArgs) -> anyhow::Result<ExitCode> {
    let Some(name) = args.name else {
        let output = args.output.context("--name or --output is needed")?;
        let contents = convert(&args.file, args.network.as_deref(), &output)?;
        end_with_the_reader();
        print_line(format_args!("{} → {}: {}", args.file.display(), output.display(), words(&contents)))?;
        return Ok(ExitCode::SUCCESS);
    };
    let data = DataDir::new(args.data.data_dir);
    let (_lock, store) = crate::api::open_rooms(&data).await?;
    let checked = tempfile::NamedTempFile::new_in(data.uploads())?;
    let contents = convert(&args.file, args.network.as_deref(), checked.path())?;
    let source = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let new = NewPretrained {
        name: name.clone(),
        network: contents.network.clone(),
        classes: contents.classes,
        parameters: contents.parameters,
        file: checked.path().to_owned(),
        source,
        source_sha256: sha256::of_file(&args.file)?,
    };
    let created = |row: &PretrainedRow| Some(format!("/pretrained/{}", row.name));
    let row = audited(&store, "import-weights", &name, created, store.insert_pretrained(new)).await?;
    store.close().await;
    end_with_the_reader();
    print_line(format_args!("imported {}: {}", row.name, words(&contents)))?;
    Ok(ExitCode::SUCCESS)
}

fn convert(file: &Path, network: Option<&str>, target: &Path) -> anyhow::Result<Contents> {
    let mut source: Box<dyn NamedTensors> =
        if is_safetensors(file)? { Box::new(SafeTensorsFile::open(file)?) } else { Box::new(StateDict::open(file)?) };
    let network = network_of(source.as_ref(), network);
    Ok(import(source.as_mut(), &network, target)?)
}

/// A safetensors file begins with the length of its JSON header and that header's brace.
fn is_safetensors(path: &Path) -> anyhow::Result<bool> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    file.take(9).read_to_end(&mut head)?;
    Ok(head.get(8) == Some(&b'{'))
}

fn words(contents: &Contents) -> String {
    let head = match contents.classes {
        Some(classes) => format!("its head for {classes} classes is left aside, each job begins with a new one"),
        None => "it has no head, each job begins with a new one".to_owned(),
    };
    let Contents { network, tensors, parameters, .. } = contents;
    format!("{network}, {tensors} tensors, {parameters} parameters; {head}")
}
