//! Of what an import speaks: of which field of the request, and of which images.

use mixmatch::dataset::{ImportError, ImportRequest};

use super::{SIX, Upload, codes, picture_of_width, six, warning};

#[test]
fn a_missing_column_is_told_of_the_setting_that_names_it_or_else_of_the_sheet() {
    let field = |upload: &Upload, request: &ImportRequest| match upload.import_as(request).unwrap_err() {
        ImportError::Invalid { field, code, .. } => (field.unwrap(), code),
        other => panic!("{other}"),
    };
    let upload = Upload::new(&six(), SIX, None);
    let missing = || Some("species".to_owned());
    for (setting, request) in [
        ("image_column", ImportRequest { image_column: missing(), ..upload.request() }),
        ("label_column", ImportRequest { label_column: missing(), ..upload.request() }),
        ("group_column", ImportRequest { group_column: missing(), ..upload.request() }),
        ("picked_column", ImportRequest { picked_column: missing(), ..upload.request() }),
    ] {
        assert_eq!(field(&upload, &request), (setting.to_owned(), "no_such_column"));
    }
    let upload = Upload::new(&six(), SIX, Some("picture,label\ne.png,cat\n"));
    assert_eq!(field(&upload, &upload.request()), ("test".to_owned(), "no_such_column"));
}

#[test]
fn sizes_are_those_of_the_images_that_stay_where_a_copy_was_left_out() {
    // By twos, so that sizes which belong to the image before say nothing.
    let label = |at: u32| ["cat", "cat", "dog", "dog"][at as usize % 4];
    let drawn = |at: u32| picture_of_width(at + 1, if label(at) == "cat" { 40 } else { 60 });
    let mut rows: Vec<(String, &str, Vec<u8>)> =
        (0..40).map(|at| (format!("{at}.png"), label(at), drawn(at))).collect();
    rows.insert(1, ("copy.png".to_owned(), "cat", drawn(0)));
    let files: Vec<(&str, Vec<u8>)> = rows.iter().map(|(name, _, bytes)| (name.as_str(), bytes.clone())).collect();
    let sheet: String = rows.iter().map(|(name, label, _)| format!("{name},{label}\n")).collect();
    let imported = Upload::new(&files, &format!("image,label\n{sheet}"), None).import().unwrap();
    assert_eq!(codes(&imported), [("duplicate_image".to_owned(), 3)]);
    let told = &warning(&imported, "crop_tells_label").unwrap().detail;
    let so = "over the whole data set the width of an image alone tells \"cat\" from the rest (AUC 1.00)";
    assert!(told.starts_with(so), "{told}");
}
