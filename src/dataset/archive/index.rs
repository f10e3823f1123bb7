//! Where a sheet's names lead in an archive, and whether the archive is one that may be read.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use zip::CompressionMethod;

use super::Images;
use super::code_pages::read_as_utf8;
use super::names::{base_name, is_image, is_litter, normalised, stem, without_extension};
use super::traces::{self, Trace};
use crate::dataset::error::ImportError;
use crate::dataset::import::ImportLimits;
use crate::dataset::labels::quoted;

/// Where a sheet's name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This entry.
    Entry(u32),
    /// This entry, the only image of the name, which the sheet writes without its extension.
    Bare(u32),
    /// No entry of that name.
    Missing,
    /// Several entries share the base name.
    Ambiguous,
}

/// Where an entry begins in the file, its own header first, where it ends, and its number.
type Extent = (u64, u64, u32);

/// Names of the images in an archive.
#[derive(Debug, Default)]
pub struct Index {
    by_path: HashMap<String, Option<u32>>,
    by_base: HashMap<String, Option<u32>>,
    /// Entry names by entry number.
    pub names: HashMap<u32, String>,
    /// The folders that all images lie in, the outermost first, each with its slash: what zipping a folder puts before every path.
    tops: Vec<String>,
    /// Entries whose names are in another encoding than UTF-8. The archive does not say in which: the reader takes it for code page 437.
    encoded: HashSet<u32>,
    /// The images less their extensions; made when the first name without one is missed.
    bare: OnceLock<Bare>,
    /// The first entry of each [`stem`]; made when the first name is missed.
    by_stem: OnceLock<HashMap<String, u32>>,
    /// All other [`Trace`]s of the entries; made when a name that may be in other letters is missed.
    other_traces: OnceLock<HashSet<Trace>>,
}

/// Images by their names less their extensions.
#[derive(Debug, Default)]
struct Bare {
    by_path: HashMap<String, Option<u32>>,
    by_base: HashMap<String, Option<u32>>,
}

impl Index {
    /// Reads the directory of `archive` and checks what it declares; contents are counted while inflating.
    pub fn new(archive: &mut Images, limits: &ImportLimits) -> Result<Self, ImportError> {
        if archive.len() > limits.max_entries {
            let detail = format!(
                "the archive has {} entries, allowed are {}: leave out what no sheet names, or make several data sets of it",
                archive.len(),
                limits.max_entries
            );
            return Err(ImportError::too_large("too_many_entries", detail));
        }
        refuse_uncounted(archive)?;
        if archive.has_duplicate_names()
            && let Some(name) = repeated_file(archive)
        {
            let detail = format!(
                "the archive has several entries {name:?}, of which one alone can be read; give each image a name of its own, or \
                 unzip it and zip the files anew"
            );
            return Err(ImportError::invalid("repeated_entry", detail));
        }
        let mut index = Self::default();
        let (mut inflated, mut stored) = (0u64, 0u64);
        let mut extents: Vec<Extent> = Vec::new();
        for number in 0..archive.len() {
            let entry = archive.by_index_raw(number).map_err(|e| {
                ImportError::invalid("unreadable_zip", format!("entry {number} of the archive is damaged: {e}"))
            })?;
            let name = entry.name().map(Cow::into_owned).unwrap_or_default();
            let is_encoded = std::str::from_utf8(entry.name_raw()).is_err();
            refuse_escape(&name, entry.is_symlink())?;
            let path = normalised(&name);
            if entry.is_dir() || is_litter(&path) {
                continue;
            }
            if is_encoded && is_image(&path) {
                index.encoded.insert(number as u32);
            }
            if entry.encrypted() {
                let detail = format!("archive entry {name:?} is encrypted; zip the images without a password");
                return Err(ImportError::invalid("encrypted_zip", detail));
            }
            // Of anything else nothing is ever read.
            if is_image(&path)
                && let Some(method) = unknown_method(entry.compression())
            {
                let detail = format!(
                    "archive entry {name:?} is compressed with {method}, which is not understood; zip the images with Deflate or Store"
                );
                return Err(ImportError::invalid("unsupported_compression", detail));
            }
            inflated = inflated.saturating_add(entry.size());
            stored = stored.saturating_add(entry.compressed_size());
            let data = entry.data_start().unwrap_or(entry.header_start());
            extents.push((entry.header_start(), data.saturating_add(entry.compressed_size()), number as u32));
            index.add(number as u32, path, name);
        }
        refuse_bomb(inflated, stored, limits)?;
        refuse_overlap(extents, &index.names)?;
        index.tops = common_folders(index.by_path.keys());
        Ok(index)
    }

    fn add(&mut self, number: u32, path: String, name: String) {
        let base = base_name(&path).to_owned();
        self.by_base.entry(base).and_modify(|known| *known = None).or_insert(Some(number));
        // `./a.jpg` beside `a.jpg`, or one accent written in two ways.
        self.by_path.entry(path).and_modify(|known| *known = None).or_insert(Some(number));
        self.names.insert(number, name);
    }

    /// An entry that a name which is not there may have meant: of another extension, case or folder, or with leading zeros.
    pub fn like(&self, name: &str) -> Option<&str> {
        self.by_stem().get(&stem(&normalised(name))).map(|number| self.names[number].as_str())
    }

    fn by_stem(&self) -> &HashMap<String, u32> {
        self.by_stem.get_or_init(|| {
            let mut numbers: Vec<u32> = self.names.keys().copied().collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            numbers.into_iter().map(|number| (stem(&normalised(&self.names[&number])), number)).collect()
        })
    }

    /// Whether any entry has this trace.
    fn has(&self, trace: &Trace) -> bool {
        if let Trace::Stem(stem) = trace {
            return self.by_stem().contains_key(stem);
        }
        let others = self.other_traces.get_or_init(|| {
            let all = self.names.keys().flat_map(|entry| self.traces(*entry));
            all.filter(|trace| !matches!(trace, Trace::Stem(_))).collect()
        });
        others.contains(trace)
    }

    fn traces(&self, entry: u32) -> Vec<Trace> {
        traces::of_entry(&self.names[&entry], self.encoded.contains(&entry))
    }

    /// What to add where a name is not there that may be, in letters which the archive does not tell.
    pub fn hint_at_letters(&self, name: &str) -> &'static str {
        if !self.encoded.is_empty() && !name.is_ascii() {
            "; the archive has names with other letters than English ones and does not say how they are written: zip the images with \
             zip -r, or with 7-Zip and its parameter cu=on, or give the files plain names"
        } else {
            ""
        }
    }

    /// Whether the name means an entry, or several, or may mean one: see [`Self::meant`].
    pub fn may_have(&self, name: &str) -> bool {
        !matches!(self.find(name), Found::Missing) || traces::of_cell(name).iter().any(|trace| self.has(trace))
    }

    /// Whether the name may be that of any image whose letters the archive does not tell.
    pub fn may_hide(&self, name: &str) -> bool {
        // Before all names of the archive are gone through.
        if self.encoded.is_empty() || !traces::has_other_letters(name) {
            return false;
        }
        match self.find(name) {
            Found::Missing => traces::is_of_thousands(name) || !self.may_have(name),
            Found::Entry(_) | Found::Bare(_) | Found::Ambiguous => false,
        }
    }

    /// The entries that these names mean. Of a name that is not there or not clear, all that it may have meant: those
    /// of another folder, extension or case, with leading zeros, or in letters that another code page has.
    pub fn meant<'a>(&self, names: impl Iterator<Item = &'a str>) -> HashSet<u32> {
        let mut meant: HashSet<u32> = HashSet::new();
        let mut doubtful: HashSet<Trace> = HashSet::new();
        for name in names {
            meant.extend(match self.find(name) {
                Found::Entry(entry) | Found::Bare(entry) => Some(entry),
                Found::Ambiguous => {
                    doubtful.extend(traces::stems_of_cell(name));
                    None
                }
                Found::Missing => {
                    let read = read_as_utf8(name).find_map(|name| self.entry(&name));
                    let traces = if read.is_some() { traces::stems_of_cell } else { traces::of_cell };
                    doubtful.extend(traces(name));
                    read
                }
            });
        }
        // One walk over the entries, however many names there are and however many entries are called alike.
        if !doubtful.is_empty() {
            let may_be = |entry: &u32| self.traces(*entry).iter().any(|trace| doubtful.contains(trace));
            meant.extend(self.names.keys().copied().filter(may_be));
        }
        meant
    }

    /// What the archive holds, for whoever looked for something else in it.
    pub fn summary(&self) -> String {
        let first = self.names.keys().min().map(|number| &self.names[number]);
        first.map_or_else(
            || "the archive holds no files".to_owned(),
            |first| format!("the archive holds {} files, such as {}", self.names.len(), quoted(first)),
        )
    }

    /// The entry of that path; where all lie in one folder, of that path within it; or the only one of that base name. Of a name
    /// without extension, the image of which the same holds.
    pub fn find(&self, name: &str) -> Found {
        let name = normalised(name);
        match self.within(&self.by_path, &self.by_base, &name) {
            Some(entry) => entry.map_or(Found::Ambiguous, Found::Entry),
            None if name.is_empty() || without_extension(&name).is_some() => Found::Missing,
            None => {
                let bare = self.bare.get_or_init(|| self.without_extensions());
                let found = self.within(&bare.by_path, &bare.by_base, &name);
                found.map_or(Found::Missing, |entry| entry.map_or(Found::Ambiguous, Found::Bare))
            }
        }
    }

    /// The one entry of that name.
    fn entry(&self, name: &str) -> Option<u32> {
        match self.find(name) {
            Found::Entry(entry) | Found::Bare(entry) => Some(entry),
            Found::Missing | Found::Ambiguous => None,
        }
    }

    /// What the name stands for among these paths and base names: an entry, or several.
    fn within(
        &self,
        by_path: &HashMap<String, Option<u32>>,
        by_base: &HashMap<String, Option<u32>>,
        name: &str,
    ) -> Option<Option<u32>> {
        let in_top = || self.tops.iter().find_map(|top| by_path.get(&format!("{top}{name}")));
        // A sheet that names folders means them; one that names files means wherever they lie.
        let anywhere = || by_base.get(name).filter(|_| !name.contains('/'));
        by_path.get(name).or_else(in_top).or_else(anywhere).copied()
    }

    fn without_extensions(&self) -> Bare {
        let mut bare = Bare::default();
        for (&number, name) in &self.names {
            let path = normalised(name);
            if let Some(path) = without_extension(&path) {
                let base = base_name(path).to_owned();
                bare.by_base.entry(base).and_modify(|known| *known = None).or_insert(Some(number));
                bare.by_path.entry(path.to_owned()).and_modify(|known| *known = None).or_insert(Some(number));
            }
        }
        bare
    }
}

/// The folders that all images among these paths lie in, the outermost first, each with its slash and those before it.
fn common_folders<'a>(paths: impl Iterator<Item = &'a String>) -> Vec<String> {
    let folders = paths.filter(|path| is_image(path)).map(|path| path.rfind('/').map_or("", |end| &path[..=end]));
    let shared = folders.reduce(|shared, folder| {
        let alike = shared.bytes().zip(folder.bytes()).take_while(|(a, b)| a == b).count();
        // A slash is a byte of its own, so that what ends with one ends with a letter.
        shared.as_bytes()[..alike].iter().rposition(|byte| *byte == b'/').map_or("", |end| &shared[..=end])
    });
    let shared = shared.unwrap_or_default();
    shared.match_indices('/').map(|(end, _)| shared[..=end].to_owned()).collect()
}

/// What a compression is called that this program does not know.
fn unknown_method(method: CompressionMethod) -> Option<&'static str> {
    match method {
        CompressionMethod::Stored | CompressionMethod::Deflated => None,
        CompressionMethod::DEFLATE64 => Some("Deflate64"),
        CompressionMethod::BZIP2 => Some("BZIP2"),
        CompressionMethod::LZMA => Some("LZMA"),
        CompressionMethod::ZSTD => Some("Zstandard"),
        CompressionMethod::XZ => Some("XZ"),
        _ => Some("another method"),
    }
}

/// Refuses a directory that goes on where the count at its end says that it does not: macOS writes more than 65,535 files without a
/// ZIP64 record, and their number modulo 65,536. The reader stops there, and the files behind it would be lost without a word.
fn refuse_uncounted(archive: &Images) -> Result<(), ImportError> {
    let mapped = archive.clone().into_inner().into_inner();
    // Of a repeated name the reader keeps the last, so that the last header it read is one of these.
    let read = (0..archive.len()).filter_map(|number| archive.by_index_data(number).ok());
    let last = read.map(|entry| entry.central_header_start()).max();
    let (start, behind) = match last {
        Some(last) => (archive.central_directory_start(), listed(mapped.as_ref(), last).skip(1).count()),
        // Of no entries the reader takes the directory for one that begins at its end, whatever the record there says.
        None => {
            let start = archive.central_directory_start().saturating_sub(archive.offset());
            (start, listed(mapped.as_ref(), start).count())
        }
    };
    if behind == 0 {
        return Ok(());
    }
    let all = listed(mapped.as_ref(), start).count();
    let detail = format!(
        "the archive's directory lists {all} files, and its end says that they are {}, as macOS writes it of more than 65535: zip them \
         with zip -r or 7-Zip, or make several data sets of them",
        all.saturating_sub(behind)
    );
    Err(ImportError::invalid("unreadable_zip", detail))
}

/// The first name that several files of the archive have. The reader keeps one entry of each name, so that the others can only be
/// found in the central directory itself.
fn repeated_file(archive: &Images) -> Option<String> {
    let mapped = archive.clone().into_inner().into_inner();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    listed(mapped.as_ref(), archive.central_directory_start()).find_map(|name| {
        let path = normalised(&String::from_utf8_lossy(name));
        (!seen.insert(name) && !path.ends_with('/') && !is_litter(&path)).then_some(path)
    })
}

/// The names in an archive's central directory (APPNOTE.TXT §4.3.12) from the header at `start` on, as far as headers follow each other
/// and however many its end says that they are.
fn listed(archive: &[u8], start: u64) -> impl Iterator<Item = &[u8]> {
    const HEADER: usize = 46;
    let mut rest = usize::try_from(start).ok().and_then(|start| archive.get(start..)).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER).filter(|header| header.starts_with(b"PK\x01\x02"))?;
        let length = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (name, extra, comment) = (length(28), length(30), length(32));
        let bytes = rest.get(HEADER..HEADER + name)?;
        rest = rest.get(HEADER + name + extra + comment..)?;
        Some(bytes)
    })
}

fn refuse_escape(name: &str, symlink: bool) -> Result<(), ImportError> {
    let parts = name.split(['/', '\\']);
    let drive = matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let absolute = name.starts_with(['/', '\\']) || drive;
    if absolute || symlink || name.contains('\0') || parts.into_iter().any(|part| part == "..") {
        let what = if symlink { "is a symbolic link" } else { "leads out of the archive" };
        let detail = format!("archive entry {name:?} {what}; pack plain files in plain folders");
        return Err(ImportError::invalid("unsafe_archive", detail));
    }
    Ok(())
}

fn refuse_bomb(inflated: u64, stored: u64, limits: &ImportLimits) -> Result<(), ImportError> {
    if inflated > limits.max_inflated {
        let detail = format!(
            "the archive inflates to {inflated} bytes, allowed are {}: save the images smaller (networks see a few hundred pixels a \
             side), or leave out those that no sheet names",
            limits.max_inflated
        );
        return Err(ImportError::too_large("archive_too_large", detail));
    }
    // Images hardly shrink; a small archive may do as it likes.
    if inflated > 64 << 20 && inflated / stored.max(1) > limits.max_ratio {
        let detail = format!(
            "the archive inflates {}-fold, allowed is {}: images that shrink that far are damaged or empty; if these are as they \
             should be, zip them without compression (zip -0)",
            inflated / stored.max(1),
            limits.max_ratio
        );
        return Err(ImportError::too_large("archive_ratio", detail));
    }
    Ok(())
}

/// A small archive could else hold one picture under a million names, and each of them would be decoded.
fn refuse_overlap(mut extents: Vec<Extent>, names: &HashMap<u32, String>) -> Result<(), ImportError> {
    extents.sort_unstable();
    if let Some(pair) = extents.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        let detail = format!(
            "the archive's entries {:?} and {:?} lie on the same bytes of it, as nothing that zips files writes them; unzip it and zip \
             the files anew",
            names[&pair[0].2], names[&pair[1].2]
        );
        return Err(ImportError::invalid("overlapping_entries", detail));
    }
    Ok(())
}
