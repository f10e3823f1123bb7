//! A multipart upload, streamed to files under the data directory: never into memory, never beyond the
//! limit, and gone again when the request is over, however it ends.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use super::extract::{BodyLimit, body_too_large};
use super::form::{Form, FormField};
use super::problem::{Problem, ProblemItem};
use crate::dataset::{ImportRequest, Unlisted};
use crate::full_disk::lacks_room;
use crate::sha256;
use crate::store::{Store, StoreError};

/// Text fields are names and words; longer ones are refused.
const TEXT_BYTES: usize = 1024;

/// Fields of a form; a stranger's form could have millions of small ones, each with its own error.
const MOST_FIELDS: usize = 64;

/// What boundaries and the heads of parts may add to what is uploaded.
const FRAMING: u64 = 64 << 10;

/// The text fields of `POST /datasets`.
const TEXT_FIELDS: [&str; 8] =
    ["name", "task", "image_column", "label_column", "group_column", "picked_column", "unlisted", "strict"];

/// The file fields of `POST /datasets`.
const FILE_FIELDS: [&str; 3] = ["images", "train", "test"];

/// The one of them that may be left away.
const OPTIONAL_FILE: &str = "test";

/// A complete upload. Its files vanish with it.
#[derive(Debug)]
pub struct Upload {
    /// The data set's name.
    pub name: String,
    /// What to import.
    pub request: ImportRequest,
    /// SHA-256 over the names and contents of all fields, whatever their order.
    pub sha256: String,
    _directory: TempDir,
}

/// What has arrived so far.
#[derive(Debug, Default)]
struct Arrived {
    text: std::collections::BTreeMap<&'static str, String>,
    files: std::collections::BTreeMap<&'static str, PathBuf>,
    hashes: std::collections::BTreeMap<&'static str, String>,
    fields: usize,
    errors: Vec<ProblemItem>,
}

/// Receives a form into a directory of its own under `uploads`. With a `store`, a name that is taken is refused as soon as
/// it has come, before the archive behind it; a request that may be a repeated one brings none, since the set of that name
/// may be its own.
///
/// # Errors
/// 400 for what is no form, 409 for a name that is taken, 413 beyond the limit, 422 with every field that is missing, unknown
/// or wrong, 507 on a full disk.
pub async fn receive(mut form: Form, uploads: &Path, store: Option<&Store>) -> Result<Upload, Problem> {
    let directory = TempDir::new_in(uploads).map_err(disk_problem)?;
    let mut arrived = Arrived::default();
    while let Some(field) = form.next_field().await? {
        arrived.fields += 1;
        if arrived.fields > MOST_FIELDS {
            let detail = format!("the form has more than {MOST_FIELDS} fields");
            return Err(Problem::invalid(detail.clone()).with_error("", "too_many_fields", detail));
        }
        let name = field.name().unwrap_or_default().to_owned();
        let text = TEXT_FIELDS.into_iter().find(|known| *known == name);
        let file = FILE_FIELDS.into_iter().find(|known| *known == name);
        if let Some(known) = text {
            if let Some(value) = read_text(field, known, &mut arrived.errors).await? {
                if let Some(store) = store.filter(|_| known == "name" && arrived.may_be_named(&value)) {
                    refuse_taken(store, &value).await?;
                }
                arrived.keep_text(known, value);
            }
        } else if let Some(known) = file {
            let unnamed = field.file_name().is_none_or(str::is_empty);
            // One without a name may be nothing, and must not be written over one that was sent before.
            let stem = if unnamed { format!("{known}-unnamed") } else { known.to_owned() };
            let path = directory.path().join(format!("{stem}{}", extension(field.file_name())));
            let (hash, bytes) = save(field, &path).await?;
            if known == OPTIONAL_FILE && unnamed && bytes == 0 {
                // What a browser sends of a form in which no file was chosen.
                continue;
            }
            arrived.hashes.insert(known, hash);
            if arrived.files.insert(known, path).is_some() {
                arrived.errors.push(ProblemItem::new(
                    format!("/{known}"),
                    "repeated",
                    format!("{known} is sent twice"),
                ));
            }
        } else {
            let detail =
                format!("no field {name:?}; there are {}", [&FILE_FIELDS[..], &TEXT_FIELDS[..]].concat().join(", "));
            arrived.errors.push(ProblemItem::new(format!("/{name}"), "unknown_field", detail));
            skip(field).await?;
        }
    }
    arrived.complete(directory)
}

impl Arrived {
    /// Nothing is wrong so far, the name included: else all that is wrong is told together at the end.
    fn may_be_named(&self, name: &str) -> bool {
        self.errors.is_empty() && check_name("name", name).is_ok()
    }

    fn keep_text(&mut self, known: &'static str, value: String) {
        self.hashes.insert(known, sha256::of(&value));
        if self.text.insert(known, value).is_some() {
            self.errors.push(ProblemItem::new(format!("/{known}"), "repeated", format!("{known} is sent twice")));
        }
    }

    fn complete(mut self, directory: TempDir) -> Result<Upload, Problem> {
        let strict = match self.text.remove("strict").as_deref() {
            None | Some("" | "false" | "0") => false,
            Some("true" | "1") => true,
            Some(other) => {
                let detail = format!("strict is {other:?}, allowed is true or false");
                self.errors.push(ProblemItem::new("/strict", "invalid_value", detail));
                false
            }
        };
        let unlisted = match self.text.remove("unlisted").as_deref() {
            None | Some("") => Unlisted::default(),
            Some(word) => word.parse::<Unlisted>().unwrap_or_else(|detail| {
                self.errors.push(ProblemItem::new("/unlisted", "invalid_value", detail));
                Unlisted::default()
            }),
        };
        let (name, task) = (self.word("name"), self.word("task"));
        let images = self.file("images", "a ZIP file of images");
        let train = self.file("train", "a CSV or XLSX sheet");
        let test = self.files.remove(OPTIONAL_FILE);
        let mut column = |known| self.text.remove(known).filter(|value| !value.is_empty());
        let (image_column, label_column) = (column("image_column"), column("label_column"));
        let (group_column, picked_column) = (column("group_column"), column("picked_column"));
        match (name, task, images, train) {
            (Some(name), Some(task), Some(images), Some(train)) if self.errors.is_empty() => {
                let request = ImportRequest {
                    task,
                    images,
                    train,
                    test,
                    image_column,
                    label_column,
                    group_column,
                    picked_column,
                    unlisted,
                    strict,
                };
                // JSON of strings, so that no two forms are written alike.
                let whole = serde_json::to_vec(&self.hashes).expect("strings always encode");
                let sha256 = sha256::of(&whole);
                Ok(Upload { name, request, sha256, _directory: directory })
            }
            _ => Err(Problem::invalid(format!("{} of the form's fields cannot be used", self.errors.len()))
                .with_errors(self.errors)),
        }
    }

    /// A name that can stand in a path, a query and an alias expression.
    fn word(&mut self, known: &'static str) -> Option<String> {
        let value = self.text.remove(known).unwrap_or_default();
        if let Err(detail) = check_name(known, &value) {
            let code = if value.is_empty() { "required" } else { "invalid_value" };
            self.errors.push(ProblemItem::new(format!("/{known}"), code, detail));
            return None;
        }
        Some(value)
    }

    fn file(&mut self, known: &'static str, what: &str) -> Option<PathBuf> {
        let path = self.files.remove(known);
        if path.is_none() {
            self.errors.push(ProblemItem::new(
                format!("/{known}"),
                "required",
                format!("{known} is missing: {what}, sent as a file"),
            ));
        }
        path
    }
}

/// Says whether `value` can name a data set or a task: it must be usable in a path and before `@` or `:`.
///
/// # Errors
/// The sentence that says what is allowed.
pub fn check_name(field: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err(format!("{field} is missing"));
    }
    let fits = value.len() <= 64
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let looks_like_id = uuid::Uuid::parse_str(value).is_ok();
    if fits && !looks_like_id {
        return Ok(());
    }
    Err(format!(
        "{field} is {value:?}; allowed are 1 to 64 letters, digits, - _ . with a letter or digit first, and no UUID"
    ))
}

/// Refuses a name that a data set has already.
///
/// # Errors
/// 409.
pub async fn refuse_taken(store: &Store, name: &str) -> Result<(), Problem> {
    match store.dataset(name).await {
        Ok(_) => {
            let detail = format!("a data set named {name:?} exists; delete it or choose another name");
            Err(Problem::conflict(detail.clone()).with_error("/name", "taken", detail))
        }
        Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn read_text(
    mut field: FormField<'_>,
    known: &str,
    errors: &mut Vec<ProblemItem>,
) -> Result<Option<String>, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await? {
        if bytes.len() + chunk.len() > TEXT_BYTES {
            skip(field).await?;
            let detail = format!("{known} is longer than {TEXT_BYTES} bytes; is it a file?");
            errors.push(ProblemItem::new(format!("/{known}"), "too_long", detail));
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(_) => {
            errors.push(ProblemItem::new(format!("/{known}"), "not_text", format!("{known} is not UTF-8 text")));
            Ok(None)
        }
    }
}

/// Writes a field to `path`; gives its hash and its bytes.
async fn save(mut field: FormField<'_>, path: &Path) -> Result<(String, u64), Problem> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut file = tokio::fs::File::create(path).await.map_err(disk_problem)?;
    while let Some(chunk) = field.chunk().await? {
        hash.update(&chunk);
        bytes += chunk.len() as u64;
        file.write_all(&chunk).await.map_err(disk_problem)?;
    }
    file.flush().await.map_err(disk_problem)?;
    Ok((sha256::hex(hash), bytes))
}

/// Reads what is left of a field, or the fields behind it could not be read.
async fn skip(mut field: FormField<'_>) -> Result<(), Problem> {
    while field.chunk().await?.is_some() {}
    Ok(())
}

/// What a refused upload is told of its limit.
pub fn body_limit(bytes: u64) -> BodyLimit {
    BodyLimit { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), setting: Some("--max-upload") }
}

/// The most bytes that a form may have, all of it counted: files, text, unknown fields and what stands between them.
pub fn most_bytes(limit: u64) -> usize {
    usize::try_from(limit.saturating_add(FRAMING)).unwrap_or(usize::MAX)
}

/// The problem of an upload beyond the limit.
pub fn too_large(limit: u64) -> Problem {
    body_too_large(Some(body_limit(limit)))
}

/// `.xlsx` and the like, so that the importer knows the sheet's kind; anything unusual is left away.
fn extension(file_name: Option<&str>) -> String {
    let extension =
        file_name.and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension.to_ascii_lowercase());
    match extension {
        Some(word) if (1..=5).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!(".{word}")
        }
        _ => String::new(),
    }
}

/// The problem of a disk that does not take an upload.
pub fn disk_problem(error: std::io::Error) -> Problem {
    if lacks_room(&error) {
        tracing::error!(%error, "no room for an upload");
        return Problem::insufficient_storage("there is no room for the upload on the server's disk");
    }
    Problem::bug("the upload could not be written to disk", &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_expressions() {
        for good in ["faces", "mask-2", "A.b_c", "7"] {
            assert_eq!(check_name("name", good), Ok(()), "{good}");
        }
        for bad in ["", "-x", "a/b", "a b", "a@b", "a:1", "..", "é", "0192f0a2-3c1e-7c4d-8f00-000000000001"] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_disk_and_a_full_quota_are_both_no_room() {
        for number in [libc::ENOSPC, libc::EDQUOT] {
            let problem = disk_problem(std::io::Error::from_raw_os_error(number));
            assert_eq!(problem.status(), axum::http::StatusCode::INSUFFICIENT_STORAGE);
        }
        let problem = disk_problem(std::io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(problem.status(), axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn only_plain_extensions_are_kept() {
        assert_eq!(extension(Some("Train.XLSX")), ".xlsx");
        assert_eq!(extension(Some("a.csv")), ".csv");
        assert_eq!(extension(Some("a./../b")), "");
        assert_eq!(extension(None), "");
    }
}
