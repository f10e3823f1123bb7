//! Archives as users send them, and as nobody should.

use std::io::{Cursor, Write};

use super::*;
use crate::dataset::import::ImportLimits;
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
    assert_eq!((index.like("0002"), index.like("photos/0002.png")), (Some("faces/0002.PNG"), Some("faces/0002.PNG")));
    assert_eq!(index.like("3.jpg"), None);
    assert_eq!(index.like("2.0"), Some("faces/0002.PNG"), "a spreadsheet drops leading zeros");
    assert_eq!(index.find("2"), Found::Missing, "and nobody guesses");
    assert_eq!(index.summary(), "the archive holds 2 files, such as \"faces/0001.jpg\"");
    assert_eq!(self::index(&[]).unwrap().summary(), "the archive holds no files");
}

#[test]
fn a_name_that_is_not_clear_means_all_that_it_may_mean() {
    let files = ["a.jpg", "x/b.jpg", "y/b.jpg", "B.png", "x/photo.12.jpg", "photo.jpg", "c.jpg", "x/ e.jpg", "f .jpg"];
    let index = index(&files.map(|name| (name, &b"1"[..]))).unwrap();
    let meant = |names: &[&str]| {
        let mut meant: Vec<u32> = index.meant(names.iter().copied()).into_iter().collect();
        meant.sort_unstable();
        meant
    };
    assert_eq!(meant(&["a.jpg", "x/b.jpg"]), [0, 1], "what is clear means itself alone");
    assert_eq!(meant(&["b.jpg"]), [1, 2, 3], "in either folder, and what differs by case and extension");
    assert_eq!(meant(&["z/A.JPEG"]), [0]);
    assert_eq!(meant(&["photo.12"]), [4], "its extension alone is left away");
    assert_eq!(meant(&["photo.13"]), [5]);
    assert_eq!(meant(&["e.jpg", "f"]), [7, 8], "a cell has no spaces at its ends, a file's name may");
    assert_eq!(meant(&["d.jpg"]), Vec::<u32>::new());
}

#[test]
fn a_name_that_a_spreadsheet_changed_means_all_that_it_may_have_been() {
    let files = ["0985.jpg", "x/00985.jpg", "985a.jpg", "\u{dc}bung 1.jpg", "\u{dc}bung 2.jpg", "\u{d6}bung 1.jpg"];
    let index = index(&files.map(|name| (name, &b"1"[..]))).unwrap();
    let meant = |name: &str| {
        let mut meant: Vec<u32> = index.meant([name].into_iter()).into_iter().collect();
        meant.sort_unstable();
        meant
    };
    assert_eq!((meant("985"), meant("985.0"), meant("0985")), (vec![0, 1], vec![0, 1], vec![0]));
    // What Windows and a Mac show of its bytes.
    assert_eq!((meant("\u{c3}\u{153}bung 1.jpg"), meant("\u{221a}\u{fa}bung 1")), (vec![3], vec![3]));
    assert_eq!(meant("\u{102}\u{15b}bung 1.jpg"), [3, 5], "of a code page that is not known here: either");
    assert_eq!(meant("?bung 2"), [4], "of a page that has no such letter");
    assert_eq!(meant("\u{c4}bung 1.jpg"), Vec::<u32>::new(), "a letter that is as it was written");
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
fn an_archive_of_another_compression_says_so() {
    for (method, name) in [(14_u8, "LZMA"), (12, "BZIP2"), (9, "Deflate64"), (98, "another method")] {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = zip::ZipWriter::new(&mut bytes);
        writer.start_file("a.jpg", SimpleFileOptions::default()).unwrap();
        writer.write_all(b"1").unwrap();
        writer.finish().unwrap();
        let mut bytes = bytes.into_inner();
        // The method in the file's own header and in the directory's.
        for (signature, at_method) in [(b"PK\x03\x04", 8), (b"PK\x01\x02", 10)] {
            let at = bytes.windows(4).position(|window| window == signature).unwrap();
            bytes[at + at_method] = method;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let refused = Index::new(&mut open(file.path()).unwrap(), &ImportLimits::default()).unwrap_err();
        assert_eq!(refused.code(), "unsupported_compression");
        let told = refused.to_string();
        assert!(told.contains(name) && told.contains("\"a.jpg\"") && told.contains("Deflate or Store"), "{told}");
        // What is no image is never read.
        let bytes = std::fs::read(file.path()).unwrap();
        let renamed: Vec<u8> = replaced(&bytes, b"a.jpg", b"a.txt");
        std::fs::write(file.path(), renamed).unwrap();
        assert!(Index::new(&mut open(file.path()).unwrap(), &ImportLimits::default()).is_ok(), "{name}");
    }
}

fn replaced(bytes: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    while let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
        bytes[at..at + what.len()].copy_from_slice(by);
    }
    bytes
}

#[test]
fn a_folder_that_all_files_lie_in_may_be_left_away() {
    let wrapped =
        index(&[("set/train/a.jpg", b"1"), ("set/test/a.jpg", b"2"), ("set/b.jpg", b"3"), ("set/set/b.jpg", b"4")]);
    let wrapped = wrapped.unwrap();
    for (name, found) in [
        ("train/a.jpg", Found::Entry(0)),
        ("./test/a.jpg", Found::Entry(1)),
        ("set/train/a.jpg", Found::Entry(0)),
        ("train/a", Found::Bare(0)),
        ("b.jpg", Found::Entry(2)),
        // The path as it is comes first.
        ("set/b.jpg", Found::Entry(2)),
        ("a.jpg", Found::Ambiguous),
        ("other/a.jpg", Found::Missing),
    ] {
        assert_eq!(wrapped.find(name), found, "{name}");
    }
    let two = index(&[("set/train/a.jpg", b"1"), ("other/a.jpg", b"2")]).unwrap();
    assert_eq!(two.find("train/a.jpg"), Found::Missing, "nothing wraps them all");
    let litter = index(&[("set/train/a.jpg", b"1"), ("__MACOSX/set/train/._a.jpg", b"2")]).unwrap();
    assert_eq!(litter.find("train/a.jpg"), Found::Entry(0));
    let deep = index(&[("home/me/s/a.jpg", b"1"), ("home/me/sun/b.jpg", b"2"), ("README", b"3")]).unwrap();
    for name in ["s/a.jpg", "me/s/a.jpg", "home/me/s/a.jpg"] {
        assert_eq!(deep.find(name), Found::Entry(0), "{name}: what is no image lies where it likes");
    }
    assert_eq!(deep.find("un/b.jpg"), Found::Missing, "a folder's name is taken whole");
}

#[test]
fn a_name_without_extension_is_the_only_image_of_that_name() {
    let files = [
        "x/p00.jpg",
        "p01.PNG",
        "p01.txt",
        "p02.jpg",
        "p02.png",
        "p.3.jpg",
        "P04.jpg",
        "q.jpg.webp",
        "y/z.jpg",
        "z.png",
        "f/r.jpg",
        "g/r.png",
    ];
    let index = index(&files.map(|name| (name, &b"1"[..]))).unwrap();
    for (name, found) in [
        ("p00", Found::Bare(0)),
        ("x/p00", Found::Bare(0)),
        ("y/p00", Found::Missing),
        ("p01", Found::Bare(1)),
        ("p02", Found::Ambiguous),
        ("p.3", Found::Bare(5)),
        ("p", Found::Missing),
        ("p04", Found::Missing),
        // It has an extension, and it is another image's.
        ("q.jpg", Found::Missing),
        ("z", Found::Bare(9)),
        ("r", Found::Ambiguous),
        ("f/r", Found::Bare(10)),
        ("g/r", Found::Bare(11)),
        ("", Found::Missing),
    ] {
        assert_eq!(index.find(name), found, "{name}");
    }
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
fn a_directory_that_goes_on_behind_the_files_it_counts_is_refused() {
    const END: usize = 22;
    let zipped = |names: &[&str]| {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = zip::ZipWriter::new(&mut bytes);
        for name in names {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        }
        writer.finish().unwrap();
        bytes.into_inner()
    };
    let indexed = |bytes: &[u8]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Index::new(&mut open(file.path()).unwrap(), &ImportLimits::default())
    };
    // The end of the directory tells twice how many files it has, at 8 and at 10.
    let counted = |mut bytes: Vec<u8>, count: u8| {
        let end = bytes.len() - END;
        (bytes[end + 8], bytes[end + 10]) = (count, count);
        bytes
    };
    let two = zipped(&["a.jpg", "b.jpg"]);
    for (count, all, bytes) in [
        (1, 2, counted(two.clone(), 1)),
        // As it is of exactly 65,536.
        (0, 2, counted(two.clone(), 0)),
        (1, 2, [&b"before"[..], &counted(two.clone(), 1)].concat()),
        (2, 4, counted(zipped(&["a.jpg", "b.jpg", "c.jpg", "d.jpg"]), 2)),
    ] {
        let refused = indexed(&bytes).unwrap_err();
        assert_eq!(refused.code(), "unreadable_zip");
        let told = refused.to_string();
        assert!(told.contains(&format!("lists {all} files")) && told.contains(&format!("they are {count},")), "{told}");
    }

    let files = |bytes: &[u8]| indexed(bytes).unwrap().names.len();
    let mut commented = two.clone();
    commented[two.len() - 2] = 5;
    commented.extend(b"PK\x01\x02!");
    assert_eq!((files(&commented), files(&[&b"before"[..], &two].concat())), (2, 2));
    assert_eq!((files(&zipped(&[])), files(&[&b"before"[..], &zipped(&[])].concat())), (0, 0));
    // A ZIP64 record tells how many there are where the end says 65,535.
    let (rest, end) = two.split_at(two.len() - END);
    let number = |at: usize| u64::from(u32::from_le_bytes(end[at..at + 4].try_into().unwrap())).to_le_bytes();
    let (size, start, two_files) = (number(12), number(16), 2_u64.to_le_bytes());
    let (length, place) = (44_u64.to_le_bytes(), (rest.len() as u64).to_le_bytes());
    let versions_and_disks = [45_u8, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let record = [&b"PK\x06\x06"[..], &length, &versions_and_disks, &two_files, &two_files, &size, &start].concat();
    let locator = [&b"PK\x06\x07\0\0\0\0"[..], &place, &1_u32.to_le_bytes()].concat();
    let mut end = end.to_vec();
    end[8..12].fill(0xff);
    assert_eq!(files(&[rest, &record, &locator, &end].concat()), 2);
}

#[test]
fn entries_that_lie_on_the_same_bytes_are_refused() {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = zip::ZipWriter::new(&mut bytes);
    for name in ["a.jpg", "b.jpg"] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(name.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let bytes = bytes.into_inner();
    // An entry of the central directory tells of its file's compressed size at 20, and where that lies at 42.
    let indexed = |at: usize, number: u32| {
        let mut bytes = bytes.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Index::new(&mut open(file.path()).unwrap(), &ImportLimits::default())
    };
    let first = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let second = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let size = u32::from_le_bytes(bytes[first + 20..first + 24].try_into().unwrap());
    assert_eq!(indexed(first + 20, size).unwrap().names.len(), 2, "one behind the other, nothing between");
    for (what, at, number) in [("one file twice", second + 42, 0), ("into the next by a byte", first + 20, size + 1)] {
        let refused = indexed(at, number).unwrap_err();
        assert_eq!(refused.code(), "overlapping_entries", "{what}");
        assert!(refused.to_string().contains("\"a.jpg\" and \"b.jpg\""), "{what}: {refused}");
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
fn a_symbolic_link_is_refused_and_not_taken_for_an_image() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = zip::ZipWriter::new(file.reopen().unwrap());
    writer.add_symlink("a.jpg", "b.jpg", SimpleFileOptions::default()).unwrap();
    writer.finish().unwrap();
    let refused = Index::new(&mut open(file.path()).unwrap(), &ImportLimits::default()).unwrap_err();
    assert_eq!(refused.code(), "unsafe_archive");
    assert_eq!(refused.to_string(), "archive entry \"a.jpg\" is a symbolic link; pack plain files in plain folders");
}

#[test]
fn a_bomb_is_refused_by_what_it_declares_and_by_what_it_inflates_to() {
    let zeros = vec![0u8; 80 << 20];
    assert_eq!(index(&[("a.jpg", &zeros)]).unwrap_err().code(), "archive_ratio");
    let limits = ImportLimits { max_inflated: 1 << 20, ..ImportLimits::default() };
    let mut bomb = archive(&[("a.jpg", &zeros[..2 << 20])]);
    assert_eq!(Index::new(&mut bomb, &limits).unwrap_err().code(), "archive_too_large");
    let refused = read_entry(&mut bomb, 0, 1 << 20).unwrap_err();
    assert_eq!(refused.code, "image_too_many_bytes");
    assert!(refused.reason.contains("2097152 bytes") && refused.reason.contains("--max-pixels"), "{refused:?}");
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
    assert!(refused.reason.contains("larger than its declared"), "{refused:?}");
    assert_eq!(refused.code, "unreadable_file");
}

#[test]
fn too_many_entries_are_refused() {
    let limits = ImportLimits { max_entries: 1, ..ImportLimits::default() };
    let error = Index::new(&mut archive(&[("a", b""), ("b", b"")]), &limits).unwrap_err();
    assert_eq!(error.code(), "too_many_entries");
}
