//! The uploaded ZIP: an index of its images, and bytes on demand, within limits.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use memmap2::Mmap;
use zip::ZipArchive;

use super::error::ImportError;
use super::import::ImportLimits;
use super::labels::composed;

/// A memory-mapped archive file that many threads may read.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mmap>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An archive; cloning shares the mapping and the index, so that each thread may have one.
pub(super) type Images = ZipArchive<Cursor<Shared>>;

/// Opens the archive at `path`.
pub(super) fn open(path: &Path) -> Result<Images, ImportError> {
    let file = File::open(path).map_err(|e| ImportError::storage(path, e))?;
    // SAFETY: the file is our own copy in the data directory; nobody writes to it after the upload.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| ImportError::storage(path, e))?;
    ZipArchive::new(Cursor::new(Shared(Arc::new(map)))).map_err(|e| {
        let detail = format!(
            "images is no ZIP archive, or one that is cut off ({e}); zip the images, or copy the file again, and send that"
        );
        ImportError::invalid("unreadable_zip", detail)
    })
}

/// Where a sheet's name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This entry.
    Entry(u32),
    /// No entry of that name.
    Missing,
    /// Several entries share the base name.
    Ambiguous,
}

/// Names of the images in an archive.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_path: HashMap<String, Option<u32>>,
    by_base: HashMap<String, Option<u32>>,
    /// Entry names by entry number.
    pub names: HashMap<u32, String>,
    /// The first entry of each [`stem`]; made when the first name is missed.
    by_stem: OnceLock<HashMap<String, u32>>,
}

impl Index {
    /// Reads the directory of `archive` and checks what it declares; contents are counted while inflating.
    pub fn new(archive: &mut Images, limits: &ImportLimits) -> Result<Self, ImportError> {
        if archive.len() > limits.max_entries {
            let detail = format!("the archive has {} entries, allowed are {}", archive.len(), limits.max_entries);
            return Err(ImportError::too_large("too_many_entries", detail));
        }
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
        for number in 0..archive.len() {
            let entry = archive.by_index_raw(number).map_err(|e| {
                ImportError::invalid("unreadable_zip", format!("entry {number} of the archive is damaged: {e}"))
            })?;
            let name = entry.name().map(Cow::into_owned).unwrap_or_default();
            refuse_escape(&name, entry.is_symlink())?;
            let path = normalised(&name);
            if entry.is_dir() || is_litter(&path) {
                continue;
            }
            if entry.encrypted() {
                let detail = format!("archive entry {name:?} is encrypted; zip the images without a password");
                return Err(ImportError::invalid("encrypted_zip", detail));
            }
            inflated = inflated.saturating_add(entry.size());
            stored = stored.saturating_add(entry.compressed_size());
            index.add(number as u32, path, name);
        }
        refuse_bomb(inflated, stored, limits)?;
        Ok(index)
    }

    fn add(&mut self, number: u32, path: String, name: String) {
        let base = base_name(&path).to_owned();
        self.by_base.entry(base).and_modify(|known| *known = None).or_insert(Some(number));
        // `./a.jpg` beside `a.jpg`, or one accent written in two ways.
        self.by_path.entry(path).and_modify(|known| *known = None).or_insert(Some(number));
        self.names.insert(number, name);
    }

    /// An entry that a name which is not there may have meant: of another extension, case or folder.
    pub fn like(&self, name: &str) -> Option<&str> {
        let by_stem = self.by_stem.get_or_init(|| {
            let mut numbers: Vec<u32> = self.names.keys().copied().collect();
            numbers.sort_unstable_by(|a, b| b.cmp(a));
            numbers.into_iter().map(|number| (stem(&normalised(&self.names[&number])), number)).collect()
        });
        by_stem.get(&stem(&normalised(name))).map(|number| self.names[number].as_str())
    }

    /// The entries that these names mean. Of a name that is not there or not clear, all that it may have meant: those
    /// of another folder, extension or case.
    pub fn meant<'a>(&self, names: impl Iterator<Item = &'a str>) -> HashSet<u32> {
        let mut meant: HashSet<u32> = HashSet::new();
        let mut doubtful: HashSet<String> = HashSet::new();
        for name in names {
            match self.find(name) {
                Found::Entry(entry) => {
                    meant.insert(entry);
                }
                Found::Missing | Found::Ambiguous => {
                    let path = normalised(name);
                    doubtful.insert(stem(&path));
                    // Written without its extension, and with a dot of its own.
                    doubtful.insert(base_name(&path).trim().to_lowercase());
                }
            }
        }
        // One walk over the entries, however many names there are and however many entries are called alike.
        if !doubtful.is_empty() {
            let like = self.names.iter().filter(|(_, name)| doubtful.contains(&stem(&normalised(name))));
            meant.extend(like.map(|(entry, _)| *entry));
        }
        meant
    }

    /// What the archive holds, for whoever looked for something else in it.
    pub fn summary(&self) -> String {
        let first = self.names.keys().min().map(|number| &self.names[number]);
        first.map_or_else(
            || "the archive holds no files".to_owned(),
            |first| format!("the archive holds {} files, such as {first:?}", self.names.len()),
        )
    }

    /// The entry of that path, or the only one of that base name.
    pub fn find(&self, name: &str) -> Found {
        let name = normalised(name);
        if let Some(entry) = self.by_path.get(&name) {
            return entry.map_or(Found::Ambiguous, Found::Entry);
        }
        // A sheet that names folders means them; one that names files means wherever they lie.
        if name.contains('/') {
            return Found::Missing;
        }
        match self.by_base.get(&name) {
            Some(Some(entry)) => Found::Entry(*entry),
            Some(None) => Found::Ambiguous,
            None => Found::Missing,
        }
    }
}

/// The first name that several files of the archive have. The reader keeps one entry of each name, so that the others can only be
/// found in the central directory itself (APPNOTE.TXT §4.3.12).
fn repeated_file(archive: &Images) -> Option<String> {
    const HEADER: usize = 46;
    let mapped = archive.clone().into_inner().into_inner();
    let mut rest = mapped.as_ref().get(usize::try_from(archive.central_directory_start()).ok()?..)?;
    let mut seen: HashSet<&[u8]> = HashSet::new();
    while let Some(header) = rest.get(..HEADER).filter(|header| header.starts_with(b"PK\x01\x02")) {
        let length = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (name, extra, comment) = (length(28), length(30), length(32));
        let bytes = rest.get(HEADER..HEADER + name)?;
        let path = normalised(&String::from_utf8_lossy(bytes));
        if !seen.insert(bytes) && !path.ends_with('/') && !is_litter(&path) {
            return Some(path);
        }
        rest = rest.get(HEADER + name + extra + comment..)?;
    }
    None
}

/// Inflates one entry, at most `max_bytes` of it. The reader stops by itself where an entry inflates to more than it
/// declares, so that [`Index::new`] could judge the whole archive by what its entries declare.
pub(super) fn read_entry(archive: &mut Images, entry: u32, max_bytes: usize) -> Result<Vec<u8>, String> {
    let file = archive.by_index(entry as usize).map_err(|e| format!("cannot be read from the archive: {e}"))?;
    let mut bytes = Vec::with_capacity((file.size() as usize).min(max_bytes));
    let mut limited = file.take((max_bytes as u64).saturating_add(1));
    limited.read_to_end(&mut bytes).map_err(|e| format!("cannot be inflated: {e}"))?;
    if bytes.len() > max_bytes {
        return Err(format!("inflates to more than {max_bytes} bytes"));
    }
    Ok(bytes)
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
        let detail = format!("the archive inflates to {inflated} bytes, allowed are {}", limits.max_inflated);
        return Err(ImportError::too_large("archive_too_large", detail));
    }
    // Images hardly shrink; a small archive may do as it likes.
    if inflated > 64 << 20 && inflated / stored.max(1) > limits.max_ratio {
        let detail = format!("the archive inflates {}-fold, allowed is {}", inflated / stored.max(1), limits.max_ratio);
        return Err(ImportError::too_large("archive_ratio", detail));
    }
    Ok(())
}

/// A path as a sheet and an archive may both have meant it: some Windows programs write backslashes, others lead with `./`,
/// and macOS writes a letter and its accent apart.
fn normalised(path: &str) -> String {
    let path = composed(&path.replace('\\', "/"));
    path.trim_start_matches("./").to_owned()
}

/// What file managers leave in archives.
fn is_litter(path: &str) -> bool {
    path.starts_with("__MACOSX/")
        || path.contains("/__MACOSX/")
        || matches!(base_name(path), ".DS_Store" | "Thumbs.db" | "desktop.ini")
}

fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A file's name less folder, extension, case and the spaces around it, which a sheet's cells lose.
fn stem(path: &str) -> String {
    let base = base_name(path);
    base.rsplit_once('.').map_or(base, |(stem, _)| stem).trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::SimpleFileOptions;

    fn archive(files: &[(&str, &[u8])]) -> Images {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in files {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap();
        open(file.path()).unwrap()
    }

    fn index(files: &[(&str, &[u8])]) -> Result<Index, ImportError> {
        Index::new(&mut archive(files), &ImportLimits::default())
    }

    #[test]
    fn names_are_found_by_path_or_by_an_unambiguous_base_name() {
        let index = index(&[("faces/a.jpg", b"1"), ("b/c.jpg", b"2"), ("d/c.jpg", b"3"), ("__MACOSX/a.jpg", b"")]);
        let index = index.unwrap();
        assert_eq!(index.find("a.jpg"), Found::Entry(0));
        assert_eq!(index.find("./faces/a.jpg"), Found::Entry(0));
        assert_eq!(index.find("d\\c.jpg"), Found::Entry(2));
        assert_eq!(index.find("c.jpg"), Found::Ambiguous);
        assert_eq!(index.find("x/a.jpg"), Found::Missing);
        assert_eq!(index.names.len(), 3);
        let nested = self::index(&[("x/a.jpg", b"1"), ("x/__MACOSX/a.jpg", b"")]).unwrap();
        assert_eq!(nested.find("a.jpg"), Found::Entry(0), "what macOS leaves in a folder is no file either");
    }

    #[test]
    fn a_name_that_is_not_there_is_shown_what_is() {
        let index = index(&[("faces/0001.jpg", b"1"), ("faces/0002.PNG", b"2")]).unwrap();
        assert_eq!(index.like("0001.JPG"), Some("faces/0001.jpg"));
        assert_eq!(
            (index.like("0002"), index.like("photos/0002.png")),
            (Some("faces/0002.PNG"), Some("faces/0002.PNG"))
        );
        assert_eq!(index.like("3.jpg"), None);
        assert_eq!(index.summary(), "the archive holds 2 files, such as \"faces/0001.jpg\"");
        assert_eq!(self::index(&[]).unwrap().summary(), "the archive holds no files");
    }

    #[test]
    fn a_name_that_is_not_clear_means_all_that_it_may_mean() {
        let files =
            ["a.jpg", "x/b.jpg", "y/b.jpg", "B.png", "x/photo.12.jpg", "photo.jpg", "c.jpg", "x/ e.jpg", "f .jpg"];
        let index = index(&files.map(|name| (name, &b"1"[..]))).unwrap();
        let meant = |names: &[&str]| {
            let mut meant: Vec<u32> = index.meant(names.iter().copied()).into_iter().collect();
            meant.sort_unstable();
            meant
        };
        assert_eq!(meant(&["a.jpg", "x/b.jpg"]), [0, 1], "what is clear means itself alone");
        assert_eq!(meant(&["b.jpg"]), [1, 2, 3], "in either folder, and what differs by case and extension");
        assert_eq!(meant(&["z/A.JPEG"]), [0]);
        assert_eq!(meant(&["photo.12"]), [4, 5]);
        assert_eq!(meant(&["e.jpg", "f"]), [7, 8], "a cell has no spaces at its ends, a file's name may");
        assert_eq!(meant(&["d.jpg"]), Vec::<u32>::new());
    }

    #[test]
    fn an_archive_with_a_password_says_so() {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = zip::ZipWriter::new(&mut bytes);
        writer.start_file("a.jpg", SimpleFileOptions::default()).unwrap();
        writer.finish().unwrap();
        let mut bytes = bytes.into_inner();
        // The flag "encrypted" of the file's own header and of the directory's.
        for (signature, flags) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
            let at = bytes.windows(4).position(|window| window == signature).unwrap();
            bytes[at + flags] |= 1;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let refused = Index::new(&mut open(file.path()).unwrap(), &ImportLimits::default()).unwrap_err();
        assert!(refused.to_string().contains("\"a.jpg\" is encrypted"), "{refused}");
    }

    #[test]
    fn entries_of_one_name_are_refused_for_all_but_one_would_be_lost() {
        // An archive whose second and third entry have one name.
        let twice = |second: &str, third: &str| {
            let mut bytes = Cursor::new(Vec::new());
            let mut writer = zip::ZipWriter::new(&mut bytes);
            for name in ["0.jpg", second, third] {
                writer.start_file(name, SimpleFileOptions::default()).unwrap();
            }
            writer.finish().unwrap();
            let mut bytes = bytes.into_inner();
            while let Some(at) = bytes.windows(third.len()).position(|window| window == third.as_bytes()) {
                bytes[at..at + second.len()].copy_from_slice(second.as_bytes());
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            Index::new(&mut open(file.path()).unwrap(), &ImportLimits::default())
        };
        let refused = twice("x/a.jpg", "x/b.jpg").unwrap_err();
        assert!(refused.code() == "repeated_entry" && refused.to_string().contains("\"x/a.jpg\""), "{refused}");
        for (one, other) in [("images/", "imagex/"), ("x/.DS_Store", "x/.DS_Stora")] {
            assert_eq!(twice(one, other).unwrap().names.len(), 1, "{one} holds no image");
        }
    }

    #[test]
    fn two_entries_that_a_sheet_cannot_tell_apart_are_ambiguous() {
        let index = index(&[("a.jpg", b"1"), ("./a.jpg", b"2"), ("f/b.jpg", b"3"), ("f\\b.jpg", b"4")]).unwrap();
        assert_eq!((index.find("a.jpg"), index.find("f/b.jpg")), (Found::Ambiguous, Found::Ambiguous));
    }

    #[test]
    fn a_path_may_be_written_with_backslashes_or_lead_with_a_dot_on_either_side() {
        let index =
            index(&[("faces\\a.jpg", b"1"), ("./faces/b.jpg", b"2"), ("x\\c.jpg", b"3"), ("y/c.jpg", b"4")]).unwrap();
        for (name, found) in [
            ("faces/a.jpg", Found::Entry(0)),
            (".\\faces\\a.jpg", Found::Entry(0)),
            ("a.jpg", Found::Entry(0)),
            ("faces/b.jpg", Found::Entry(1)),
            ("c.jpg", Found::Ambiguous),
            ("x/c.jpg", Found::Entry(2)),
        ] {
            assert_eq!(index.find(name), found, "{name}");
        }
        let accents = self::index(&[("e\u{301}0.jpg", b"1"), ("\u{e9}1.jpg", b"2")]).unwrap();
        assert_eq!(accents.find("\u{e9}0.jpg"), Found::Entry(0));
        assert_eq!(accents.find("e\u{301}1.jpg"), Found::Entry(1));
        assert_eq!(index.names[&0], "faces\\a.jpg", "the archive's own name is kept for messages");
    }

    #[test]
    fn entries_that_lead_out_are_refused() {
        for name in ["../a.jpg", "/etc/passwd", "x/../../a.jpg", "C:/a.jpg", "..\\a.jpg"] {
            assert_eq!(index(&[(name, b"1")]).unwrap_err().code(), "unsafe_archive", "{name}");
        }
        assert_eq!(index(&[("1:30.jpg", b"1")]).unwrap().find("1:30.jpg"), Found::Entry(0), "1: is no drive");
    }

    #[test]
    fn a_bomb_is_refused_by_what_it_declares_and_by_what_it_inflates_to() {
        let zeros = vec![0u8; 80 << 20];
        assert_eq!(index(&[("a.jpg", &zeros)]).unwrap_err().code(), "archive_ratio");
        let limits = ImportLimits { max_inflated: 1 << 20, ..ImportLimits::default() };
        let mut bomb = archive(&[("a.jpg", &zeros[..2 << 20])]);
        assert_eq!(Index::new(&mut bomb, &limits).unwrap_err().code(), "archive_too_large");
        assert!(read_entry(&mut bomb, 0, 1 << 20).unwrap_err().contains("more than"));
        assert_eq!(read_entry(&mut bomb, 0, 4 << 20).unwrap().len(), 2 << 20);
    }

    #[test]
    fn an_entry_that_inflates_to_more_than_it_declares_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
        writer.start_file("a.jpg", SimpleFileOptions::default()).unwrap();
        writer.write_all(&vec![0u8; 1 << 20]).unwrap();
        writer.finish().unwrap();
        // The size lies 24 bytes into the entry of the central directory, which is what readers believe.
        let mut bytes = std::fs::read(file.path()).unwrap();
        let entry = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
        bytes[entry + 24..entry + 28].copy_from_slice(&1000u32.to_le_bytes());
        std::fs::write(file.path(), bytes).unwrap();
        let mut liar = open(file.path()).unwrap();
        Index::new(&mut liar, &ImportLimits::default()).unwrap();
        let refused = read_entry(&mut liar, 0, 4 << 20).unwrap_err();
        assert!(refused.contains("larger than its declared"), "{refused}");
    }

    #[test]
    fn too_many_entries_are_refused() {
        let limits = ImportLimits { max_entries: 1, ..ImportLimits::default() };
        let error = Index::new(&mut archive(&[("a", b""), ("b", b"")]), &limits).unwrap_err();
        assert_eq!(error.code(), "too_many_entries");
    }
}
