//! Imports from sheets and archives made here, as a user would send them.

use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use mixmatch::dataset::{
    DatasetError, ImportError, ImportLimits, ImportRequest, Imported, Manifest, PackedImages, Role, Warning, import,
};
use mixmatch::imaging::{DecodeLimits, Fit, Preprocess, prepare};

#[path = "import/told.rs"]
mod told;
#[path = "import/unlisted.rs"]
mod unlisted;

/// A picture that differs from every other `seed`'s.
fn picture(seed: u32) -> Vec<u8> {
    picture_of_width(seed, 40)
}

fn picture_of_width(seed: u32, width: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        let mixed = (x / 4 + 7 * (y / 4) + 31 * seed).wrapping_mul(2_654_435_761);
        Rgb([(mixed >> 8) as u8, (mixed >> 16) as u8, (mixed >> 24) as u8])
    };
    let mut bytes = Vec::new();
    let image = DynamicImage::ImageRgb8(RgbImage::from_fn(width, 48, pixel));
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

/// A photograph, large enough to be decoded at a fraction of its size for a network of 32 pixels.
fn photo(seed: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| {
        let wave = |at: u32| (110.0 + 100.0 * (f64::from(at * seed) / 37.0).sin()) as u8;
        Rgb([wave(x), wave(y), wave(x + y)])
    };
    let mut bytes = Vec::new();
    let image = DynamicImage::ImageRgb8(RgbImage::from_fn(600, 450, pixel));
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Jpeg).unwrap();
    bytes
}

/// A directory with an archive and sheets.
struct Upload {
    directory: tempfile::TempDir,
}

impl Upload {
    fn new(files: &[(&str, Vec<u8>)], train: &str, test: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut archive = zip::ZipWriter::new(std::fs::File::create(directory.path().join("images.zip")).unwrap());
        for (name, bytes) in files {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        std::fs::write(directory.path().join("train.csv"), train).unwrap();
        if let Some(test) = test {
            std::fs::write(directory.path().join("test.csv"), test).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn request(&self) -> ImportRequest {
        let test = self.path("test.csv");
        ImportRequest {
            task: "pet".into(),
            images: self.path("images.zip"),
            train: self.path("train.csv"),
            test: test.exists().then_some(test),
            ..ImportRequest::default()
        }
    }

    fn import(&self) -> Result<Imported, ImportError> {
        self.import_as(&self.request())
    }

    fn import_as(&self, request: &ImportRequest) -> Result<Imported, ImportError> {
        import(request, &ImportLimits::default(), &self.path("sets/one"), &|_| {})
    }

    fn import_as_groups(&self, column: &str) -> Imported {
        self.import_as(&ImportRequest { group_column: Some(column.into()), ..self.request() }).unwrap()
    }

    /// Names left in the directory that data sets live in.
    fn left_behind(&self) -> Vec<String> {
        std::fs::read_dir(self.path("sets"))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default()
    }
}

fn six() -> Vec<(&'static str, Vec<u8>)> {
    ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"].into_iter().zip((1..).map(picture)).collect()
}

const SIX: &str = "image,label,age\na.png,cat,1\nb.png,dog,2\nc.png,cat,3\nd.png,dog,\n";

fn codes(imported: &Imported) -> Vec<(String, u64)> {
    imported.report.rejected.iter().map(|row| (row.code.clone(), row.row)).collect()
}

#[test]
fn a_clean_upload_becomes_a_data_set() {
    let upload = Upload::new(&six(), SIX, Some("image,label\ne.png,cat\nf.png,dog\n"));
    let imported = upload.import().unwrap();
    let manifest = Manifest::read(&upload.path("sets/one")).unwrap();
    assert_eq!(manifest, imported.manifest);
    assert_eq!(manifest.classes, ["cat", "dog"]);
    let counts = manifest.counts();
    assert_eq!((counts.train["cat"], counts.train["dog"], counts.test["cat"], counts.unlabelled), (2, 2, 1, 0));
    assert_eq!(manifest.samples[0].attributes["age"], "1");
    assert!(imported.report.rejected.is_empty());
    assert_eq!(upload.left_behind(), ["one"]);
}

#[test]
fn packed_pixels_are_what_predict_would_see() {
    let mut files = six();
    files[1].1 = mixmatch::demo::dataset::draw(1, 3, "face").unwrap()[0].bytes.clone();
    files[2].1 = photo(1);
    files[3].1 = photo(3);
    let upload = Upload::new(&files, SIX, None);
    let imported = upload.import().unwrap();
    for (size, fit) in [(32, Fit::Stretch), (20, Fit::Crop), (24, Fit::Face)] {
        let preprocess = Preprocess { size, fit };
        let packed =
            PackedImages::open_or_build(&upload.path("sets/one"), &imported.manifest, &preprocess, &mut |_| {
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(packed.len(), 4);
        for (index, (_, bytes)) in files.iter().take(4).enumerate() {
            let seen = prepare(bytes, &DecodeLimits::default(), &preprocess).unwrap();
            assert_eq!(packed.image(index), seen.pixels, "image {index} at {preprocess:?}");
            if let Some(mut faces) = packed.faces() {
                assert_eq!(faces.nth(index), Some(seen.face.is_some()));
                assert!(seen.face.is_some() || index != 1, "image {index} is a drawn face");
            }
        }
        assert_eq!(packed.faces().is_some(), fit == Fit::Face);
    }
}

#[test]
fn an_image_that_an_import_took_can_be_packed_whatever_the_limits_are_then() {
    let limits = |max_pixels| ImportLimits {
        image: DecodeLimits { max_pixels, ..DecodeLimits::default() },
        ..ImportLimits::default()
    };
    // Larger than the usual limit, and of one colour so that it is quickly made.
    let mut large = Vec::new();
    let image = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(8000, 6300, image::Luma([90])));
    image.write_to(&mut Cursor::new(&mut large), ImageFormat::Png).unwrap();
    let mut files = six();
    files[0].1 = large;
    let upload = Upload::new(&files, SIX, None);
    let at = upload.path("sets/one");
    let refused = import(&upload.request(), &limits(50_000_000), &upload.path("sets/other"), &|_| {}).unwrap();
    assert_eq!(codes(&refused), [("image_too_large".to_owned(), 2)]);
    let imported = import(&upload.request(), &limits(60_000_000), &at, &|_| {}).unwrap();
    assert_eq!(codes(&imported), []);
    let preprocess = Preprocess { size: 20, fit: Fit::Crop };
    let packed =
        PackedImages::open_or_build(&at, &imported.manifest, &preprocess, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(packed.image(0), [90; 20 * 20 * 3]);
}

#[test]
fn packing_tells_how_far_it_is_and_can_be_ended() {
    let names: Vec<String> = (0..300).map(|at| format!("{at}.png")).collect();
    let files: Vec<(&str, Vec<u8>)> = names.iter().map(String::as_str).zip((1..).map(picture)).collect();
    let rows = names.iter().enumerate().map(|(at, name)| format!("{name},{}\n", ["cat", "dog"][at % 2]));
    let upload = Upload::new(&files, &format!("image,label\n{}", rows.collect::<String>()), None);
    let imported = upload.import().unwrap();
    let pack = |until: usize| {
        let mut told = Vec::new();
        let mut progress = |done| {
            told.push(done);
            if done >= until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let preprocess = Preprocess { size: 20, fit: Fit::Crop };
        let packed =
            PackedImages::open_or_build(&upload.path("sets/one"), &imported.manifest, &preprocess, &mut progress);
        (packed.map(|packed| packed.len()), told)
    };
    assert!(matches!(pack(256), (Err(DatasetError::Stopped), told) if told == [0, 256]));
    let left: Vec<_> = std::fs::read_dir(upload.path("sets/one/packed")).unwrap().collect();
    assert_eq!(left.len(), 1, "only what the import packed: {left:?}");
    assert!(matches!(pack(usize::MAX), (Ok(300), told) if told == [0, 256]));
}

#[test]
fn a_damaged_packed_file_is_made_anew() {
    let upload = Upload::new(&six(), SIX, None);
    let imported = upload.import().unwrap();
    let preprocess = Preprocess { size: 32, fit: Fit::Stretch };
    let open = || {
        PackedImages::open_or_build(&upload.path("sets/one"), &imported.manifest, &preprocess, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap()
    };
    let before = open().bytes().to_vec();
    let file = upload.path("sets/one/packed/32-stretch.pack");
    std::fs::write(&file, &std::fs::read(&file).unwrap()[..100]).unwrap();
    assert_eq!(open().bytes(), before);
    // As an earlier version wrote it, whose pixels were others.
    let mut earlier = std::fs::read(&file).unwrap();
    earlier[7] = 1;
    *earlier.last_mut().unwrap() ^= 0xff;
    std::fs::write(&file, earlier).unwrap();
    assert_eq!(open().bytes(), before);
}

#[test]
fn bad_rows_are_left_out_and_listed_with_their_row_number() {
    let mut files = six();
    files.push(("broken.png", b"\x89PNG\r\n\x1a\n and then nothing".to_vec()));
    files.push(("text.png", b"hello".to_vec()));
    files.push(("same-as-a.png", picture(1)));
    files.push(("g.png", picture(7)));
    files.push(("h.png", picture(8)));
    let train = "image,label\na.png,cat\nmissing.png,dog\nb.png,dog\nb.png,dog\nbroken.png,cat\ntext.png,cat\n\
                 same-as-a.png,cat\nc.png,\nd.png,dog\n,cat\ng.png,cat\nh.png,dog\n";
    let imported = Upload::new(&files, train, Some("image,label\ne.png,cat\nf.png,bird\n")).import().unwrap();
    let mut found = codes(&imported);
    found.sort();
    let expected = [
        ("corrupt_image", 6),
        ("duplicate_image", 8),
        ("duplicate_row", 5),
        ("missing_file", 3),
        ("no_image_name", 11),
        ("unknown_label", 3),
        ("unsupported_image_format", 7),
    ];
    assert_eq!(found, expected.map(|(code, row)| (code.to_owned(), row)));
    assert_eq!(imported.manifest.counts().unlabelled, 1);
}

#[test]
fn of_very_many_rows_of_one_image_the_report_lists_the_first_and_counts_all() {
    let train = format!("{SIX}{}", "a.png,cat,9\n".repeat(30_000));
    let report = Upload::new(&six(), &train, None).import().unwrap().report;
    assert_eq!((report.rejected_rows, report.rejected.len()), (30_000, 10_000));
    assert!(report.rejected.iter().zip(6..).all(|(row, number)| row.code == "duplicate_row" && row.row == number));
    let strict = Upload::new(&six(), &train, None);
    let error = strict.import_as(&ImportRequest { strict: true, ..strict.request() }).unwrap_err();
    assert!(error.to_string().starts_with("30000 of 30004 rows"), "{error}");
    let ImportError::Rows { left_out, rejected, .. } = error else { panic!("{error}") };
    assert_eq!((left_out, rejected.len()), (30_000, 10_000));
}

#[test]
fn a_label_of_another_case_than_the_class_is_told() {
    let train = SIX.replace("cat", "True").replace("dog", "False");
    let test = "image,label\ne.png,TRUE\nf.png,False\n";
    let imported = Upload::new(&six(), &train, Some(test)).import();
    let told = imported.unwrap().report.rejected.into_iter().find(|row| row.code == "unknown_label").unwrap();
    assert!(told.detail.contains("\"True\" differs by its case alone"), "{told:?}");
    // A column with gaps is written as floats, and text may have any number of digits.
    let train = SIX.replace("cat", "1").replace("dog", "0");
    let imported = Upload::new(&six(), &train, Some("image,label\ne.png,1.00\nf.png,0\n")).import();
    let told = imported.unwrap().report.rejected.into_iter().find(|row| row.code == "unknown_label").unwrap();
    assert!(told.detail.contains("; if it means \"1\", write both alike"), "{told:?}");
}

#[test]
fn a_test_picture_in_the_training_sheet_is_not_trained_on() {
    let mut files = six();
    files.push(("copy-of-e.png", picture(5)));
    let train = format!("{SIX}copy-of-e.png,cat,9\n");
    let imported = Upload::new(&files, &train, Some("image,label\ne.png,cat\nf.png,dog\n")).import().unwrap();
    assert_eq!(codes(&imported), [("in_test_too".to_owned(), 6)]);
    let names: Vec<&str> = imported.manifest.samples.iter().map(|sample| sample.image.as_str()).collect();
    assert!(!names.contains(&"copy-of-e.png") && names.contains(&"e.png"));
    assert_eq!(imported.manifest.samples.last().unwrap().split, Role::Test);
}

/// A scene of soft shapes, one for each seed; unlike its mirror image, and large enough to be resized.
fn scene(seed: u32) -> RgbImage {
    // SplitMix64: neighbouring seeds have nothing in common.
    let turn = |n: u32| {
        let mut z = u64::from(seed * 1000 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 40) as f64 / f64::from(1 << 24)
    };
    RgbImage::from_fn(96, 120, |x, y| {
        let (x, y) = (f64::from(x) / 96.0, f64::from(y) / 120.0);
        let blob = |n: u32| {
            let (dx, dy) = (x - turn(n), y - turn(n + 1));
            (-(dx * dx + dy * dy) / (0.005 + 0.03 * turn(n + 2))).exp()
        };
        let light: f64 = (0..10).map(|n| blob(4 * n) * (turn(4 * n + 3) - 0.5)).sum();
        let value = 110.0 + 160.0 * light;
        Rgb([value, value * 0.9 + 12.0, 200.0 - value * 0.6].map(|value| value.clamp(0.0, 255.0) as u8))
    })
}

fn encoded(image: RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    DynamicImage::ImageRgb8(image).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn warning<'a>(imported: &'a Imported, code: &str) -> Option<&'a Warning> {
    imported.report.warnings.iter().find(|warning| warning.code == code)
}

#[test]
fn a_picture_that_was_saved_again_is_found_across_sheets_and_others_are_not() {
    use image::imageops::{FilterType, brighten, flip_horizontal, resize};
    let png = |seed| encoded(scene(seed), ImageFormat::Png);
    let jpeg = encoded(scene(1), ImageFormat::Jpeg);
    let small = encoded(resize(&scene(2), 57, 71, FilterType::Triangle), ImageFormat::Jpeg);
    let brighter = encoded(brighten(&scene(3), 18), ImageFormat::Jpeg);
    let mirrored = encoded(flip_horizontal(&scene(4)), ImageFormat::Jpeg);
    let mut files: Vec<(String, Vec<u8>)> = (1..=30).map(|seed| (format!("{seed}.png"), png(seed))).collect();
    let copies = [("jpeg.jpg", jpeg), ("small.jpg", small), ("brighter.jpg", brighter), ("mirrored.jpg", mirrored)];
    files.extend(copies.map(|(name, bytes)| (name.to_owned(), bytes)));
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let train: String = (1..=24).map(|seed| format!("{seed}.png,{}\n", ["cat", "dog"][seed % 2])).collect();
    let test: String = (25..=30).map(|seed| format!("{seed}.png,{}\n", ["cat", "dog"][seed % 2])).collect();
    let copies = "jpeg.jpg,dog\nsmall.jpg,cat\nbrighter.jpg,dog\nmirrored.jpg,dog\n";

    let test_sheet = format!("image,label\n{test}{copies}");
    let upload = Upload::new(&files, &format!("image,label\n{train}"), Some(&test_sheet));
    let imported = upload.import().unwrap();
    let told = warning(&imported, "near_duplicate_in_both_sheets").unwrap();
    assert!(told.detail.starts_with("4 of 10 test images (40.0 %)"), "{told:?}");
    let pairs = [
        "train row 2 \"1.png\" and test row 8 \"jpeg.jpg\"",
        "train row 3 \"2.png\" and test row 9 \"small.jpg\"",
        "train row 4 \"3.png\" and test row 10 \"brighter.jpg\"",
        "train row 5 \"4.png\" and test row 11 \"mirrored.jpg\" (mirrored)",
    ];
    assert_eq!(told.examples, pairs);
    let told = warning(&imported, "near_duplicate_labels_differ").unwrap();
    assert!(told.detail.starts_with("1 pairs") && told.examples[0].contains("mirrored.jpg"), "{told:?}");
    assert_eq!(warning(&imported, "near_duplicates"), None, "nothing repeats within the training sheet");
    assert_eq!(imported.manifest.counts().train.values().sum::<u64>(), 24, "near duplicates are kept");
    // What looks alike is one group: the manifest, and so every split, knows.
    let groups = |name: &str| imported.manifest.samples.iter().find(|sample| sample.image == name).unwrap().group;
    assert!(groups("1.png").is_some() && groups("1.png") == groups("jpeg.jpg") && groups("5.png").is_none());

    let imported = Upload::new(&files, &format!("image,label\n{train}{copies}"), None).import().unwrap();
    assert_eq!(warning(&imported, "near_duplicate_in_both_sheets"), None);
    assert!(warning(&imported, "near_duplicates").unwrap().detail.starts_with("8 training images"));
}

#[test]
fn a_group_column_makes_groups_and_a_group_in_both_sheets_is_told() {
    let train = "image,label,Person\na.png,cat,anna\nb.png,dog,bert\nc.png,cat,anna\nd.png,dog,\n";
    let upload = Upload::new(&six(), train, Some("image,label,Person\ne.png,cat,anna\nf.png,dog,cleo\n"));
    let request = ImportRequest { group_column: Some("person".into()), ..upload.request() };
    let imported = upload.import_as(&request).unwrap();
    let groups: Vec<Option<u32>> = imported.manifest.samples.iter().map(|sample| sample.group).collect();
    assert_eq!(groups, [Some(0), None, Some(0), None, Some(0), None]);
    let told = warning(&imported, "group_in_both_sheets").unwrap();
    assert!(
        told.detail.starts_with("1 of 2 groups") && told.detail.contains("1 of 2 test images (50.0 %)"),
        "{told:?}"
    );
    assert_eq!(Manifest::read(&upload.path("sets/one")).unwrap().warnings, imported.report.warnings);
    // Groups decide who may validate: a data set with others is another one.
    let plain =
        Upload::new(&six(), train, Some("image,label,Person\ne.png,cat,anna\nf.png,dog,cleo\n")).import().unwrap();
    assert_ne!(plain.manifest.content_hash, imported.manifest.content_hash);
}

#[test]
fn a_picked_row_below_the_unlabelled_one_keeps_the_group_of_its_image() {
    let train =
        "image,label,Person,picked\na.png,cat,anna,\nb.png,dog,bert,\nc.png,,anna,\nd.png,cat,cleo,\nc.png,dog,,yes\n";
    let imported = Upload::new(&six(), train, None).import_as_groups("person");
    assert_eq!(codes(&imported), [("duplicate_row".to_owned(), 4)]);
    let groups = imported.manifest.samples.iter().map(|sample| (sample.image.as_str(), sample.picked, sample.group));
    let expected = [("a.png", Some(0)), ("b.png", None), ("c.png", Some(0)), ("d.png", None)];
    let mut groups: Vec<_> = groups.collect();
    groups.sort_unstable();
    assert_eq!(groups, expected.map(|(image, group)| (image, image == "c.png", group)));
}

#[test]
fn words_for_an_unknown_group_are_told_with_their_images() {
    let train = "image,label,person\na.png,cat,NA\nb.png,dog,NA\nc.png,cat,anna\nd.png,,NA\n";
    let upload = Upload::new(&six(), train, Some("image,label,person\ne.png,cat,NA\nf.png,dog,-\n"));
    let request = ImportRequest { group_column: Some("person".into()), ..upload.request() };
    let imported = upload.import_as(&request).unwrap();
    let told = warning(&imported, "group_may_be_a_gap").unwrap();
    assert!(told.detail.starts_with("\"NA\" (4 images) in column \"person\" became a group"), "{told:?}");
    assert!(told.detail.contains("leave those cells empty"), "{told:?}");
    assert_eq!(warning(&imported, "group_in_both_sheets").unwrap().examples, ["\"NA\" with 1 of the test images"]);
    let train = train.replace("NA", "");
    let imported = Upload::new(&six(), &train, None).import_as_groups("person");
    assert_eq!(warning(&imported, "group_may_be_a_gap"), None);
}

#[test]
fn a_picture_that_two_people_have_joins_their_groups_be_it_the_same_file_or_saved_again() {
    let of = |name: &str, copy: Vec<u8>| {
        let png = |seed| encoded(scene(seed), ImageFormat::Png);
        let files = [("a1.png", png(1)), ("a2.png", png(2)), (name, copy), ("b2.png", png(3)), ("c.png", png(4))];
        let train = format!(
            "image,label,person\na1.png,cat,anna\na2.png,dog,anna\n{name},cat,bert\nb2.png,dog,bert\nc.png,cat,cleo\n"
        );
        let imported = Upload::new(&files, &train, None).import_as_groups("person");
        let others = imported.manifest.samples.iter().filter(|sample| sample.image != name);
        (others.map(|sample| sample.group).collect::<Vec<_>>(), codes(&imported))
    };
    let groups = vec![Some(0), Some(0), Some(0), None];
    let same = of("b1.png", encoded(scene(1), ImageFormat::Png));
    assert_eq!(same, (groups.clone(), vec![("duplicate_image".to_owned(), 4)]));
    assert_eq!(of("b1.jpg", encoded(scene(1), ImageFormat::Jpeg)), (groups, Vec::new()));
}

#[test]
fn cells_that_read_nan_are_empty_in_every_column() {
    let train = "image,label,age,source\na.png,cat,1,NaN\nb.png,dog,nan,web\nc.png,cat,3,nan\nd.png,dog,NaN,Nancy\n";
    let imported = Upload::new(&six(), train, None).import().unwrap();
    let samples = imported.manifest.samples.iter();
    let kept: Vec<Vec<&str>> = samples.map(|sample| sample.attributes.values().map(String::as_str).collect()).collect();
    assert_eq!(kept, [vec!["1"], vec!["web"], vec!["3"], vec!["Nancy"]]);
}

#[test]
fn groups_are_told_apart_as_labels_are() {
    // pandas writes whole numbers as floats where the column has a gap, and a gap as NaN.
    let train = "image,label,person\na.png,cat,3.0\nb.png,dog,4.0\nc.png,cat,NaN\nd.png,dog,nan\n";
    let upload = Upload::new(&six(), train, Some("image,label,person\ne.png,cat,3\nf.png,dog,5\n"));
    let request = ImportRequest { group_column: Some("person".into()), ..upload.request() };
    let imported = upload.import_as(&request).unwrap();
    let groups: Vec<Option<u32>> = imported.manifest.samples.iter().map(|sample| sample.group).collect();
    assert_eq!(groups, [Some(0), None, None, None, Some(0), None]);
    assert!(warning(&imported, "group_in_both_sheets").is_some());
}

#[test]
fn a_group_column_makes_groups_however_its_name_is_written() {
    // The sheet has the accent apart, as macOS writes it, and capitals.
    let train = "image,label,PRU\u{308}FLING\na.png,cat,x\nb.png,dog,x\nc.png,cat,y\nd.png,dog,z\n";
    let upload = Upload::new(&six(), train, Some("image,label,pru\u{308}fling\ne.png,cat,y\nf.png,dog,w\n"));
    let request = ImportRequest { group_column: Some("Pr\u{fc}fling".into()), ..upload.request() };
    let imported = upload.import_as(&request).unwrap();
    let groups: Vec<Option<u32>> = imported.manifest.samples.iter().map(|sample| sample.group).collect();
    assert_eq!(groups, [Some(0), Some(0), Some(1), None, Some(1), None]);
    assert!(warning(&imported, "group_in_both_sheets").is_some());
}

#[test]
fn groups_that_a_spreadsheet_wrote_otherwise_are_told_and_stay_apart() {
    let train = "image,label,person\na.png,cat,000\nb.png,dog,001\nc.png,cat,p6\nd.png,dog,x\n";
    let upload = Upload::new(&six(), train, Some("image,label,person\n"));
    // Excel makes numbers of them.
    let mut book = rust_xlsxwriter::Workbook::new();
    let page = book.add_worksheet();
    page.write_row(0, 0, ["image", "label", "person"]).unwrap();
    page.write_row(1, 0, ["e.png", "cat"]).unwrap().write(1, 2, 0).unwrap();
    page.write_row(2, 0, ["f.png", "dog", "P6"]).unwrap();
    book.save(upload.path("test.xlsx")).unwrap();
    let test = Some(upload.path("test.xlsx"));
    let request = ImportRequest { group_column: Some("person".into()), test, ..upload.request() };
    let imported = upload.import_as(&request).unwrap();
    let told = warning(&imported, "similar_groups").unwrap();
    assert!(told.detail.starts_with("2 names") && told.detail.contains("2 of them in the training sheet"), "{told:?}");
    assert_eq!(told.examples[0], "\"0\" (test) and \"000\" (train)");
    assert_eq!(warning(&imported, "group_in_both_sheets"), None);
    assert!(imported.manifest.samples.iter().all(|sample| sample.group.is_none()), "they may be two persons");
}

#[test]
fn of_two_columns_of_one_name_neither_is_lost() {
    // The first goes with the label, and would be overwritten by the second.
    let names: Vec<String> = (0..40).map(|at| format!("{at}.png")).collect();
    let files: Vec<(&str, Vec<u8>)> = names.iter().map(String::as_str).zip((1..).map(picture)).collect();
    let row = |(at, name): (usize, &String)| {
        let (label, source) = [("cat", "web"), ("dog", "studio")][at % 2];
        format!("{name},{label},{source},{}\n", ["one", "two"][at / 2 % 2])
    };
    let rows: String = names.iter().enumerate().map(row).collect();
    let imported = Upload::new(&files, &format!("image,label,source,source\n{rows}"), None).import().unwrap();
    let attributes = &imported.manifest.samples[0].attributes;
    assert_eq!((attributes["source"].as_str(), attributes["source (2)"].as_str()), ("web", "one"));
    assert!(warning(&imported, "repeated_column").unwrap().detail.contains("\"source (2)\""));
    assert!(warning(&imported, "confounded_label").unwrap().detail.contains("column \"source\""));
}

#[test]
fn a_spreadsheets_error_is_no_label_and_no_group() {
    let upload = Upload::new(&six(), SIX, None);
    let mut book = rust_xlsxwriter::Workbook::new();
    let page = book.add_worksheet();
    page.write_row(0, 0, ["image", "label", "age"]).unwrap();
    for (row, (name, _)) in (1..).zip(six()) {
        page.write(row, 0, name)
            .unwrap()
            .write(row, 1, ["cat", "dog"][row as usize % 2])
            .unwrap()
            .write(row, 2, "30+")
            .unwrap();
    }
    page.write_formula(1, 2, rust_xlsxwriter::Formula::new("=1/0").set_result("#DIV/0!")).unwrap();
    page.write_formula(3, 1, rust_xlsxwriter::Formula::new("=NA()").set_result("#N/A")).unwrap();
    book.save(upload.path("train.xlsx")).unwrap();
    let request = ImportRequest { train: upload.path("train.xlsx"), ..upload.request() };
    let imported = upload.import_as(&request).unwrap();
    assert_eq!(codes(&imported), [("error_cell".to_owned(), 4)]);
    let detail = &imported.report.rejected[0].detail;
    assert!(detail.contains("\"label\" is \"#N/A\", an error of the spreadsheet"), "{detail}");
    assert_eq!(imported.manifest.classes, ["cat", "dog"]);
    assert_eq!(warning(&imported, "lost_classes"), None);
    let ages: Vec<_> =
        imported.manifest.samples.iter().map(|sample| sample.attributes.get("age").map(String::as_str)).collect();
    assert_eq!(ages, [None, Some("30+"), Some("30+"), Some("30+"), Some("30+")]);
}

#[test]
fn labels_that_read_nan_are_counted() {
    let train = "image,label\na.png,Nan\nb.png,dog\nc.png,nan\nd.png,dog\ne.png,\n";
    let upload = Upload::new(&six(), train, None);
    refused(
        &upload,
        &upload.request(),
        "too_few_classes",
        &["one class alone (dog)", "2 cells of the label column read NaN"],
    );
    let imported = Upload::new(&six(), &train.replace("d.png,dog", "d.png,cat"), None).import().unwrap();
    assert!(warning(&imported, "nan_taken_as_empty").unwrap().detail.starts_with("2 cells of column \"label\""));
    let empty = Upload::new(&six(), "image,label\na.png,\nb.png,\n", None);
    let error = empty.import().unwrap_err().to_string();
    assert!(!error.contains("NaN"), "{error}");
}

#[test]
fn a_header_of_another_separator_is_read_by_its_columns() {
    let train = "image;label;size (b,h,t)\na.png;cat;1\nb.png;dog;2\n";
    let imported = Upload::new(&six(), train, None).import().unwrap();
    assert_eq!(imported.manifest.samples[0].attributes["size (b,h,t)"], "1");
    let upload = Upload::new(&six(), "picture;what,x\na.png;cat,1\nb.png;dog,2\n", None);
    refused(&upload, &upload.request(), "no_such_column", &["image", "parted at each comma", "sep=;"]);
}

#[test]
fn a_folder_about_all_files_and_missing_extensions_refuse_nothing() {
    let mut files = six();
    let paths = [
        "set/train/a.png",
        "set/train/b.png",
        "set/train/c.png",
        "set/train/d.png",
        "set/test/e.png",
        "set/test/f.png",
    ];
    files.iter_mut().zip(paths).for_each(|(file, path)| file.0 = path);
    let train = "image,label\ntrain/a.png,cat\ntrain/b.png,dog\nc,cat\ntrain/d,dog\n";
    let imported = Upload::new(&files, train, Some("image,label\ntest/e.png,cat\nf.png,dog\n")).import().unwrap();
    assert_eq!(codes(&imported), []);
    assert_eq!(imported.manifest.samples.iter().map(|sample| sample.entry).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let told = warning(&imported, "names_without_extension").unwrap();
    assert!(told.detail.starts_with("2 rows"), "{told:?}");
    assert_eq!(told.examples[0], "train row 4 \"c\" is \"set/train/c.png\"");
    assert_eq!(warning(&Upload::new(&six(), SIX, None).import().unwrap(), "names_without_extension"), None);
}

#[test]
fn an_image_of_too_many_bytes_is_told_as_that_and_what_mends_it() {
    let mut files = six();
    // No picture at all: its size is judged before its bytes.
    files[0].1 = (0..2000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let upload = Upload::new(&files, SIX, None);
    let image = DecodeLimits { max_bytes: 1000, ..DecodeLimits::default() };
    let limits = ImportLimits { image, ..ImportLimits::default() };
    let rejected = match import(&upload.request(), &limits, &upload.path("sets/one"), &|_| {}) {
        Ok(imported) => imported.report.rejected,
        Err(ImportError::Rows { rejected, .. }) => rejected,
        Err(other) => panic!("{other}"),
    };
    let first = rejected.iter().find(|row| row.image == "a.png").unwrap();
    assert_eq!(first.code, "image_too_many_bytes");
    assert!(first.detail.contains("2000 bytes") && first.detail.contains("MIXMATCH_MAX_PIXELS"), "{first:?}");
}

#[test]
fn labels_that_may_be_one_class_and_classes_without_a_usable_row_are_told() {
    let train = "image,label\na.png,Mask\nb.png,mask\nc.png,no_mask\nd.png,no_mask\ngone.png,half\n";
    let imported = Upload::new(&six(), train, None).import().unwrap();
    assert_eq!(imported.manifest.classes, ["Mask", "mask", "no_mask"]);
    assert!(warning(&imported, "similar_labels").unwrap().detail.contains("\"Mask\" and \"mask\""));
    assert!(warning(&imported, "lost_classes").unwrap().detail.contains("\"half\""));
    let plain = Upload::new(&six(), SIX, None).import().unwrap();
    assert_eq!((warning(&plain, "similar_labels"), warning(&plain, "lost_classes")), (None, None));
}

#[test]
fn a_line_break_in_a_label_is_a_row_that_is_left_out() {
    // Two stray quotes: the first opens a cell, the second closes it two lines later.
    let train = "image,label\na.png,\"cat\nb.png,dog\nc.png,cat\"\nd.png,dog\ne.png,cat\nf.png,dog\n";
    let imported = Upload::new(&six(), train, None).import().unwrap();
    assert_eq!(codes(&imported), [("line_break".to_owned(), 2)]);
    assert_eq!(imported.manifest.classes, ["cat", "dog"]);
}

#[test]
fn long_names_are_refused_where_they_would_be_repeated() {
    let long = "x".repeat(1 << 20);
    let rows = "a.png,cat,1\n".repeat(100_000);
    // With every row a copy of the name: 100 GB.
    let upload = Upload::new(&six(), &format!("image,label,{long}\n{rows}"), None);
    let words = ["column 3 of the train sheet (row 1)", "1048576 bytes", "1024"];
    refused(&upload, &upload.request(), "long_column_name", &words);

    // With every row a reason that names three of the labels: 300 GB.
    let labels = ["a", "b", "c"].map(|end| format!("a.png,{long}{end},1\n")).concat();
    let train = format!("image,label,age\n{labels}{rows}{long},cat,1\nb.png,dog,2\n");
    let imported = Upload::new(&six(), &train, None).import().unwrap();
    assert_eq!(imported.manifest.classes, ["cat", "dog"]);
    let told: Vec<_> = imported.report.rejected.iter().filter(|row| row.code == "long_cell").collect();
    assert_eq!(told.iter().map(|row| row.row).collect::<Vec<_>>(), [2, 3, 4, 100_005]);
    assert!(told[0].detail.contains("column \"label\" has 1048577 bytes"), "{}", told[0].detail);
    assert!(told.iter().all(|row| row.detail.len() < 300 && row.image.len() < 1100), "{told:?}");
    assert!(warning(&imported, "lost_classes").unwrap().detail.len() < 1000);
}

#[test]
fn of_a_long_cell_beside_them_the_beginning_is_kept() {
    let upload = Upload::new(&six(), &SIX.replace("a.png,cat,1", &format!("a.png,cat,{}", "é".repeat(2500))), None);
    let imported = upload.import().unwrap();
    assert_eq!(codes(&imported), []);
    assert_eq!(imported.manifest.samples[0].attributes["age"], format!("{}… (5000 bytes)", "é".repeat(512)));
    assert!(warning(&imported, "long_cells").unwrap().detail.contains("\"age\""));
    assert_eq!(warning(&Upload::new(&six(), SIX, None).import().unwrap(), "long_cells"), None);
}

#[test]
fn rows_that_say_the_same_again_are_no_bad_rows() {
    // Three people looked at each image and agree.
    let rows = "a.png,cat\nb.png,dog\n";
    let imported = Upload::new(&six(), &format!("image,label\n{rows}{rows}{rows}"), None).import().unwrap();
    assert_eq!(codes(&imported).len(), 4);
    assert_eq!(imported.manifest.samples.len(), 2);
}

#[test]
fn a_test_sheet_that_is_the_training_sheet_is_refused_row_by_row() {
    match Upload::new(&six(), SIX, Some(SIX)).import().unwrap_err() {
        ImportError::Rows { code, rejected, .. } => {
            assert_eq!(code, "mostly_rejected");
            assert!(rejected.iter().all(|row| row.code == "in_test_too") && rejected.len() == 4, "{rejected:?}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn rows_of_the_sheet_that_an_import_is_refused_for_come_first() {
    let train = format!("{SIX}missing.png,cat,9\n");
    match Upload::new(&six(), &train, Some("image,label\ne.png,Cat\nf.png,Dog\n")).import().unwrap_err() {
        ImportError::Rows { rejected, detail, .. } => {
            let sheets: Vec<&str> = rejected.iter().map(|row| row.sheet.as_str()).collect();
            assert_eq!(sheets, ["test", "test", "train"], "{rejected:?}");
            assert!(detail.contains("the first: ") && detail.contains("\"Cat\" is no class"), "{detail}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_training_sheet_of_which_nothing_is_left_is_not_called_one_of_too_few_classes() {
    let upload = Upload::new(&six(), "image,label\nx.png,cat\ny.png,dog\n", None);
    refused(&upload, &upload.request(), "mostly_rejected", &["2 of 2", "x.png"]);
    let upload = Upload::new(&six(), "image,label\na.png,\nb.png,\n", None);
    refused(&upload, &upload.request(), "too_few_classes", &["no row", "has a label"]);
}

#[test]
fn a_refusal_says_which_columns_were_read() {
    let upload = Upload::new(&six(), "Name,file,pet\nanna,a.png,cat\nbert,b.png,dog\n", None);
    let request = ImportRequest { image_column: Some("Name".into()), ..upload.request() };
    refused(&upload, &request, "mostly_rejected", &["image names were read from column \"Name\", labels from \"pet\""]);
    let upload = Upload::new(&six(), "image,pet,Label\na.png,cat,train\nb.png,dog,train\n", None);
    refused(&upload, &upload.request(), "too_few_classes", &["label column, \"Label\", holds one", "label_column"]);
    let upload = Upload::new(&six(), "image,pet,Label\na.png,cat,\nb.png,dog,\n", None);
    refused(&upload, &upload.request(), "too_few_classes", &["no row", "in column \"Label\"", "label_column"]);
}

#[test]
fn the_references_sheets_work_as_they_are() {
    // Written by pandas: an unnamed index column, numbers as floats, `Mask Label` or `Gender`.
    for label in ["Mask Label", "Gender"] {
        let upload = Upload::new(&six(), SIX, None);
        let mut book = rust_xlsxwriter::Workbook::new();
        let page = book.add_worksheet();
        page.write_row(0, 0, ["", "Image", "Age", label]).unwrap();
        for row in 1..=4u32 {
            page.write(row, 0, row - 1).unwrap();
            page.write(row, 1, six()[row as usize - 1].0).unwrap();
            page.write(row, 2, 30 + row).unwrap();
            page.write(row, 3, f64::from(row % 2)).unwrap();
        }
        book.save(upload.path("train.xlsx")).unwrap();
        let request = ImportRequest { train: upload.path("train.xlsx"), task: "anything".into(), ..upload.request() };
        let request = ImportRequest { label_column: (label == "Gender").then(|| "gender".to_owned()), ..request };
        let imported = upload.import_as(&request).unwrap();
        assert_eq!(imported.manifest.classes, ["0", "1"]);
        assert_eq!(imported.manifest.samples[0].attributes["Age"], "31");
    }
}

#[track_caller]
fn refused(upload: &Upload, request: &ImportRequest, code: &str, words: &[&str]) {
    let error = upload.import_as(request).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in: {error}");
    }
    assert_eq!(upload.left_behind(), Vec::<String>::new(), "a refused import left something behind");
}

#[test]
fn what_cannot_be_imported_at_all_is_refused_and_leaves_nothing() {
    let upload = Upload::new(&six(), SIX, None);
    let named = ImportRequest { label_column: Some("species".into()), ..upload.request() };
    refused(&upload, &named, "no_such_column", &["species", "\"label\"", "\"age\""]);

    let upload = Upload::new(&six(), "picture,label\na.png,cat\n", None);
    refused(&upload, &upload.request(), "no_such_column", &["image", "picture"]);

    let upload = Upload::new(&six(), "image,label\na.png,cat\nb.png,cat\n", None);
    refused(&upload, &upload.request(), "too_few_classes", &["cat"]);

    let upload = Upload::new(&six(), "image,label\nx.png,cat\ny.png,dog\na.png,cat\n", None);
    refused(&upload, &upload.request(), "mostly_rejected", &["2 of 3"]);

    // A long training sheet does not hide that nothing of the test sheet is left.
    let upload = Upload::new(&six(), SIX, Some("image,label\ne.png,Cat\nf.png,Dog\n"));
    refused(&upload, &upload.request(), "mostly_rejected", &["2 of 2", "test sheet"]);

    let upload = Upload::new(&six(), SIX, None);
    for (column, code) in [("label", "same_column"), ("IMAGE", "same_column"), ("person", "no_such_column")] {
        let request = ImportRequest { group_column: Some(column.into()), ..upload.request() };
        refused(&upload, &request, code, &["group_column"]);
    }
    let twice = Upload::new(&six(), "image,who,who\na.png,cat,dog\n", None);
    let request = ImportRequest { label_column: Some("who".into()), ..twice.request() };
    refused(&twice, &request, "ambiguous_column", &["who"]);

    let request = ImportRequest { images: upload.path("nowhere.zip"), ..upload.request() };
    refused(&upload, &request, "unreadable_file", &["nowhere.zip", "No such file"]);

    let upload = Upload::new(&[("../../a.png", picture(1))], SIX, None);
    refused(&upload, &upload.request(), "unsafe_archive", &["../../a.png"]);

    let upload = Upload::new(&six(), SIX, None);
    std::fs::write(upload.path("images.zip"), b"no archive").unwrap();
    refused(&upload, &upload.request(), "unreadable_zip", &["ZIP"]);
}

#[test]
fn strict_refuses_for_a_single_row_and_lists_it() {
    let upload = Upload::new(&six(), &format!("{SIX}gone.png,cat,1\n"), None);
    let request = ImportRequest { strict: true, ..upload.request() };
    match upload.import_as(&request).unwrap_err() {
        ImportError::Rows { code, rejected, .. } => {
            assert_eq!(code, "rejected_rows");
            assert_eq!((rejected[0].row, rejected[0].image.as_str()), (6, "gone.png"));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_content_hash_tells_data_sets_apart() {
    let hash = |train: &str| Upload::new(&six(), train, None).import().unwrap().manifest.content_hash;
    assert_eq!(hash(SIX), hash(SIX));
    assert_ne!(hash(SIX), hash(&SIX.replace("a.png,cat", "a.png,dog")));
    // What was picked is split otherwise.
    let (none, one) = (SIX.replace(",age", ",picked").replace(",1\n", ",0\n"), SIX.replace(",age", ",picked"));
    let [none, one] = [none, one].map(|sheet| sheet.replace(",2\n", ",\n").replace(",3\n", ",\n"));
    assert_ne!(hash(&none), hash(&one));
    assert_eq!(hash(&none), hash(SIX), "where nothing was picked the hash is what it was");
}

/// The real sheets, where they are there.
#[test]
fn the_real_mask_data_is_imported_with_its_confounding_named() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/mask");
    if !shared.exists() {
        println!("SKIPPED: {} is not here, the real data was not imported", shared.display());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let request = ImportRequest {
        task: "mask".into(),
        images: shared.join("images.zip"),
        train: shared.join("train.csv"),
        test: Some(shared.join("test.csv")),
        group_column: Some("group".into()),
        ..ImportRequest::default()
    };
    let imported = import(&request, &ImportLimits::default(), &directory.path().join("mask"), &|_| {}).unwrap();
    let counts = imported.manifest.counts();
    assert_eq!((counts.train["mask"], counts.train["no_mask"]), (3041, 2262));
    assert_eq!(counts.test.values().sum::<u64>(), 1489);
    assert!(imported.report.rejected.is_empty(), "{:?}", imported.report.rejected.first());
    // The data set's README: near duplicates never straddle, and in rmfd and fm12k the crop style alone tells the class.
    assert_eq!(warning(&imported, "near_duplicate_in_both_sheets"), None);
    assert_eq!(warning(&imported, "group_in_both_sheets"), None);
    let told: Vec<&str> = imported.report.warnings.iter().map(|warning| warning.detail.as_str()).collect();
    for source in ["rmfd", "fm12k"] {
        let named = |detail: &&str| detail.contains(source) && detail.contains("AUC");
        assert!(told.iter().any(named), "no warning about crops in {source}: {told:#?}");
    }
}
