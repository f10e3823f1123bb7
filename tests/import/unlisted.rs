//! Images of the archive that no row names: left out, or learned from without a label.

use image::ImageFormat;
use mixmatch::dataset::{ImportError, ImportRequest, Imported, Unlisted};

use super::{Upload, codes, encoded, picture, refused, scene, six, warning};

/// The request that learns from them.
fn unlabelled(upload: &Upload) -> ImportRequest {
    ImportRequest { unlisted: Unlisted::Unlabelled, ..upload.request() }
}

/// Names of the samples that have no label.
fn without_label(imported: &Imported) -> Vec<&str> {
    let samples = imported.manifest.samples.iter().filter(|sample| sample.label.is_none());
    samples.map(|sample| sample.image.as_str()).collect()
}

const TWO: &str = "image,label\na.png,cat\nb.png,dog\n";
const TEST: &str = "image,label\ne.png,cat\nf.png,dog\n";

#[test]
fn images_that_no_sheet_names_are_learned_from_where_that_is_asked_for() {
    let mut files = six();
    files.push(("more/G.PNG", picture(7)));
    files.push(("notes.txt", b"hello".to_vec()));
    files.push((".hidden/h.png", picture(8)));
    files.push(("__MACOSX/._a.png", b"litter".to_vec()));

    let ignored = Upload::new(&files, TWO, Some(TEST)).import().unwrap();
    assert_eq!(without_label(&ignored), Vec::<&str>::new());
    assert!(warning(&ignored, "unnamed_files").unwrap().detail.starts_with("5 files"), "{:?}", ignored.report);
    assert_eq!(warning(&ignored, "unlisted_images"), None);

    let upload = Upload::new(&files, TWO, Some(TEST));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    let names: Vec<&str> = imported.manifest.samples.iter().map(|sample| sample.image.as_str()).collect();
    assert_eq!(names, ["a.png", "b.png", "c.png", "d.png", "more/G.PNG", "e.png", "f.png"]);
    assert_eq!(without_label(&imported), ["c.png", "d.png", "more/G.PNG"]);
    let counts = imported.manifest.counts();
    assert_eq!((counts.unlabelled, counts.train["cat"], counts.test["cat"]), (3, 1, 1));
    assert_eq!(codes(&imported), []);
    let told = &warning(&imported, "unlisted_images").unwrap().detail;
    assert!(told.starts_with("3 images") && !told.contains("may mean"), "{told}");
    let told = &warning(&imported, "unnamed_files").unwrap().detail;
    assert!(told.starts_with("2 files") && told.contains("no images by their names"), "{told}");
    assert_eq!(imported.manifest.warnings, imported.report.warnings, "a model says it too");
    assert_eq!(warning(&imported, "unlisted_groups"), None);
}

#[test]
fn an_image_that_any_row_means_is_never_learned_from_without_a_word() {
    let names: Vec<String> = (0..21).map(|at| format!("{at}.png")).collect();
    let mut files: Vec<(&str, Vec<u8>)> = names.iter().map(String::as_str).zip((1..).map(picture)).collect();
    files.extend([("x/twice.png", picture(31)), ("y/twice.png", picture(32)), ("y/more.png", picture(33))]);
    let labelled = |from: usize| -> String {
        (from..from + 6).map(|at| format!("{at}.png,{}\n", ["cat", "dog"][at % 2])).collect()
    };
    let train = format!("image,label\n{}6.png,cat\n6.png,dog\n", labelled(0));
    let long = "x".repeat(1100);
    let test = format!("image,label\n{}16.png,\n17.png,bird\n18.png,{long}\n19.PNG,cat\ntwice.png,cat\n", labelled(10));
    let upload = Upload::new(&files, &train, Some(&test));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    let expected = [
        ("conflicting_label", 8),
        ("conflicting_label", 9),
        ("no_label", 8),
        ("unknown_label", 9),
        ("long_cell", 10),
        ("missing_file", 11),
        ("ambiguous_file", 12),
    ];
    assert_eq!(codes(&imported), expected.map(|(code, row)| (code.to_owned(), row)));
    assert_eq!(without_label(&imported), ["7.png", "8.png", "9.png", "20.png", "y/more.png"]);
    // 6, 16, 17, 18, 19, and both that are called twice.png.
    let told = &warning(&imported, "unlisted_images").unwrap().detail;
    assert!(told.starts_with("5 images") && told.contains("; 7 images that rows which were left out"), "{told}");
    assert_eq!(warning(&imported, "unnamed_files"), None, "each row that was left out tells of its own");
}

#[test]
fn an_image_whose_name_a_spreadsheet_changed_is_never_learned_from() {
    let mut files = six();
    files.extend([("Übung 0.png", picture(7)), ("0985.png", picture(8)), ("g.png", picture(9))]);
    for broken in ["√úbung 0.png", "Ãœbung 0.png", "?bung 0.png"] {
        let train = format!("{TWO}c.png,cat\n{broken},dog\n");
        let upload = Upload::new(&files, &train, Some(&format!("{TEST}985,cat\n")));
        let imported = upload.import_as(&unlabelled(&upload)).unwrap();
        assert_eq!(codes(&imported), [("missing_file".to_owned(), 5), ("missing_file".to_owned(), 4)]);
        assert_eq!(without_label(&imported), ["d.png", "g.png"], "{broken}");
        let told = &warning(&imported, "unlisted_images").unwrap().detail;
        assert!(told.starts_with("2 images") && told.contains("; 2 images that rows which were left out"), "{told}");
        let zeros = &imported.report.rejected[1].detail;
        assert!(zeros.contains("\"985\"; it has \"0985.png\""), "{zeros}");
    }
}

#[test]
fn where_the_archive_does_not_tell_its_letters_a_row_keeps_what_it_may_mean_or_refuses_the_import() {
    let mut files = six();
    files.extend([("#bung 0.png", picture(7)), ("#bung 1.png", picture(8))]);
    let zipped_by_windows = |more: &str| {
        let upload = Upload::new(&files, TWO, Some(&format!("{TEST}{more}")));
        let mut bytes = std::fs::read(upload.path("images.zip")).unwrap();
        while let Some(at) = bytes.windows(5).position(|window| window == b"#bung") {
            // Ü in code page 1252.
            bytes[at] = 0xdc;
        }
        std::fs::write(upload.path("images.zip"), bytes).unwrap();
        upload
    };
    let upload = zipped_by_windows("Übung 0.png,cat\n");
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    assert_eq!(codes(&imported), [("missing_file".to_owned(), 4)]);
    assert_eq!(without_label(&imported), ["c.png", "d.png", "▄bung 1.png"], "the reader takes Ü for that");
    let upload = zipped_by_windows("猫.png,cat\n");
    refused(&upload, &unlabelled(&upload), "unclear_rows", &["1 of the rows do not tell", "test row 4"]);
}

#[test]
fn rows_of_which_nobody_can_tell_what_they_name_are_refused() {
    let surplus = format!("{TWO}c.png,cat\nd,e.png,dog\n");
    let upload = Upload::new(&six(), &surplus, None);
    refused(
        &upload,
        &unlabelled(&upload),
        "unclear_rows",
        &["1 of the rows do not tell", "the first is train row 5", "ignore"],
    );
    let imported = upload.import().unwrap();
    assert_eq!(codes(&imported), [("surplus_cells".to_owned(), 5)], "where they are left out, that one row is too");

    // A label without an image, and an image's name that is a spreadsheet's error: as text in a CSV.
    for row in [",dog\n", "#N/A,dog\n"] {
        let upload = Upload::new(&six(), TWO, Some(&format!("{TEST}{row}")));
        refused(&upload, &unlabelled(&upload), "unclear_rows", &["1 of the rows do not tell", "test row 4"]);
    }
    // A workbook says of a cell that it is an error: there was a name, be the row labelled yet or not.
    for label in ["dog", ""] {
        let upload = Upload::new(&six(), TWO, None);
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        page.write_row(0, 0, ["image", "label"]).unwrap();
        page.write_row(1, 0, ["e.png", "cat"]).unwrap();
        page.write_row(2, 0, ["f.png", "dog"]).unwrap();
        page.write_formula(3, 0, rust_xlsxwriter::Formula::new("=NA()").set_result("#N/A")).unwrap();
        page.write(3, 1, label).unwrap();
        book.save(upload.path("test.xlsx")).unwrap();
        let request = ImportRequest { test: Some(upload.path("test.xlsx")), ..unlabelled(&upload) };
        refused(&upload, &request, "unclear_rows", &["1 of the rows do not tell", "test row 4"]);
    }
    // What names nothing hides nothing.
    let upload = Upload::new(&six(), "image,label,note\na.png,cat,\nb.png,dog,\n,,see above\n", None);
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    assert_eq!(codes(&imported), [("no_image_name".to_owned(), 4)]);

    // Two stray quotes: the rows between them became one label.
    let swallowed = "image,label\na.png,cat\nb.png,\"dog\nc.png,cat\nd.png,dog\"\ne.png,dog\n";
    let upload = Upload::new(&six(), swallowed, None);
    refused(&upload, &unlabelled(&upload), "unclear_rows", &["train row 3"]);

    // In a column of notes they are a text of several lines: taken as it is, but what it names is not unlisted, whatever parts the cells.
    let noted = "label,image,note\ncat,a.png,\"tall\ndog,c.png,\"\ndog,b.png,\"two\nlines\"\n";
    for separator in [",", ";", "\t", "|"] {
        let upload = Upload::new(&six(), &noted.replace(',', separator), None);
        let imported = upload.import_as(&unlabelled(&upload)).unwrap();
        assert_eq!(without_label(&imported), ["d.png", "e.png", "f.png"], "{separator:?}");
    }

    // The header's last cell may swallow rows, too.
    let headed = "image,label,\"note\nc.png,cat,\"\na.png,cat,\nb.png,dog,\n";
    let upload = Upload::new(&six(), headed, None);
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    assert_eq!(without_label(&imported), ["d.png", "e.png", "f.png"]);
}

#[test]
fn thumbnails_of_network_drives_are_nobodys_images_and_jfif_is_a_jpeg() {
    let mut files = six();
    files.push(("@eaDir/a.png/SYNOPHOTO_THUMB_M.png", picture(7)));
    files.push(("x/@eaDir/a.png", picture(8)));
    files.push(("g.jfif", encoded(scene(3), ImageFormat::Jpeg)));
    let upload = Upload::new(&files, TWO, Some(TEST));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    assert_eq!(without_label(&imported), ["c.png", "d.png", "g.jfif"]);
    assert_eq!((codes(&imported), warning(&imported, "unnamed_files")), (vec![], None));
}

#[test]
fn an_image_whose_name_has_spaces_around_it_is_meant_by_the_row_that_lost_them() {
    let mut files = six();
    files.extend([(" g.png", picture(7)), ("x/h .png", picture(8))]);
    let train = "image,label\na.png,cat\nb.png,dog\nc.png,cat\n g.png,dog\n";
    let upload = Upload::new(&files, train, Some("image,label\ne.png,cat\nf.png,dog\nh.png,cat\n"));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    assert_eq!(codes(&imported), [("missing_file".to_owned(), 5), ("missing_file".to_owned(), 4)]);
    let told = &imported.report.rejected[1].detail;
    assert!(told.contains("x/h .png"), "{told}");
    assert_eq!(without_label(&imported), ["d.png"]);
}

#[test]
fn an_unlisted_image_that_cannot_be_read_is_listed_by_its_place_in_the_archive() {
    let broken = || b"\x89PNG\r\n\x1a\n and then nothing".to_vec();
    let mut files = six();
    files.push(("broken.png", broken()));
    let upload = Upload::new(&files, TWO, None);
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    let row = &imported.report.rejected[0];
    assert_eq!((row.sheet.as_str(), row.row, row.image.as_str()), ("archive", 7, "broken.png"));
    assert_eq!((row.code.as_str(), row.place().as_str()), ("corrupt_image", "archive file 7"));
    assert_eq!((imported.report.rejected.len(), imported.manifest.counts().unlabelled), (1, 4));

    let upload = Upload::new(&files, TWO, None);
    let strict = ImportRequest { strict: true, ..unlabelled(&upload) };
    refused(&upload, &strict, "rejected_rows", &["1 of 7 rows and unlisted images"]);

    // More than half of them, behind rows that are all good.
    files.truncate(5);
    files[2].1 = broken();
    files[3].1 = broken();
    let upload = Upload::new(&files, TWO, None);
    refused(&upload, &unlabelled(&upload), "mostly_rejected", &["2 of 3 images that no row names"]);
}

#[test]
fn bad_rows_are_listed_before_the_archives_images() {
    let mut files = six();
    files.insert(0, ("broken.png", b"\x89PNG\r\n\x1a\n and then nothing".to_vec()));
    let upload = Upload::new(&files, &format!("{TWO}gone.png,cat\n"), Some(&format!("{TEST}away.png,cat\n")));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    let places: Vec<String> = imported.report.rejected.iter().map(|row| row.place()).collect();
    assert_eq!(places, ["train row 4", "test row 4", "archive file 1"]);
}

#[test]
fn an_unlisted_copy_takes_the_place_of_no_row() {
    let mut files = vec![("copy-of-e.png", picture(5)), ("copy-of-a.png", picture(1)), ("copy-of-c.png", picture(3))];
    files.extend(six());
    let upload = Upload::new(&files, TWO, Some(TEST));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    let expected = [("in_test_too", 1), ("duplicate_image", 2), ("duplicate_image", 6)];
    assert_eq!(codes(&imported), expected.map(|(code, place)| (code.to_owned(), place)));
    assert!(imported.report.rejected.iter().all(|row| row.sheet == "archive"), "{:?}", imported.report.rejected);
    let counts = imported.manifest.counts();
    assert_eq!((counts.train["cat"], counts.test["cat"], counts.unlabelled), (1, 1, 2));
    assert_eq!(without_label(&imported), ["copy-of-c.png", "d.png"]);

    // An archive in which every picture lies twice is no bad archive.
    let mut files = vec![("1.png", picture(5)), ("2.png", picture(1)), ("3.png", picture(2)), ("4.png", picture(6))];
    files.extend(six());
    let upload = Upload::new(&files, TWO, Some(TEST));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    assert_eq!((codes(&imported).len(), imported.manifest.counts().unlabelled), (4, 2));
}

#[test]
fn an_unlisted_image_that_is_nearly_a_test_image_is_named_by_its_place() {
    let names = ["1.png", "2.png", "3.png", "4.png", "5.png", "6.png"];
    let mut files: Vec<(&str, Vec<u8>)> =
        names.into_iter().zip((1..).map(|seed| encoded(scene(seed), ImageFormat::Png))).collect();
    files.push(("again.jpg", encoded(scene(5), ImageFormat::Jpeg)));
    let train = "image,label\n1.png,cat\n2.png,dog\n3.png,cat\n4.png,dog\n";
    let upload = Upload::new(&files, train, Some("image,label\n5.png,cat\n6.png,dog\n"));
    let imported = upload.import_as(&unlabelled(&upload)).unwrap();
    let told = warning(&imported, "near_duplicate_in_both_sheets").unwrap();
    assert_eq!(told.examples, ["archive file 7 \"again.jpg\" and test row 2 \"5.png\""]);
}

#[test]
fn groups_that_may_stand_among_unlisted_images_are_told() {
    let train = "image,label,person\na.png,cat,anna\nb.png,dog,bert\n";
    let grouped = |upload: &Upload, unlisted| {
        upload.import_as(&ImportRequest { group_column: Some("person".into()), unlisted, ..upload.request() }).unwrap()
    };
    let imported = grouped(&Upload::new(&six(), train, None), Unlisted::Unlabelled);
    let told = &warning(&imported, "unlisted_groups").unwrap().detail;
    assert!(told.starts_with("4 images") && told.contains("\"person\""), "{told}");
    assert_eq!(warning(&grouped(&Upload::new(&six(), train, None), Unlisted::Ignore), "unlisted_groups"), None);
    let all = format!("{train}c.png,,\nd.png,,\ne.png,,\nf.png,,\n");
    let imported = grouped(&Upload::new(&six(), &all, None), Unlisted::Unlabelled);
    assert_eq!((warning(&imported, "unlisted_groups"), warning(&imported, "unlisted_images")), (None, None));
}

#[test]
fn unlisted_images_alone_make_no_data_set() {
    let upload = Upload::new(&six(), "image,label\na.png,cat\nb.png,cat\n", None);
    match upload.import_as(&unlabelled(&upload)).unwrap_err() {
        ImportError::Invalid { code, .. } => assert_eq!(code, "too_few_classes"),
        other => panic!("{other}"),
    }
}
