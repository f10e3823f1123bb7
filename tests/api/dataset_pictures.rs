//! `/datasets/{dataset}/….png`: what the sheets show, and what is refused.

use image::{RgbImage, imageops};

use super::app::{TestApp, pointers, problem};
use super::pictures::{data_set, picture};

/// Gap around and between pictures, and height of the line above the first row, pixels.
const GAP: u32 = 8;
const LINE: u32 = 11;
/// 32 pixels are shown as 96.
const ZOOM: u32 = 3;
const CELL: u32 = 32 * ZOOM;
/// From one picture to the next, where captions need their room.
const ACROSS: u32 = 13 * 8 + GAP;

async fn app() -> TestApp {
    let app = TestApp::start().await;
    app.import("shapes", &data_set(20, 6)).await;
    app
}

async fn bytes(app: &TestApp, path: &str) -> Vec<u8> {
    let response = app.get(path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    assert_eq!(response.headers()["content-type"], "image/png");
    response.bytes().await.unwrap().to_vec()
}

fn decoded(png: &[u8]) -> RgbImage {
    let mut reader = image::ImageReader::new(std::io::Cursor::new(png));
    reader.set_format(image::ImageFormat::Png);
    reader.decode().unwrap().to_rgb8()
}

/// The picture at a place on a sheet, at its own size.
fn shown(sheet: &RgbImage, left: u32, top: u32) -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| *sheet.get_pixel(left + x * ZOOM + 1, top + y * ZOOM + 1))
}

/// Everything that is kept of the data sets.
fn files(app: &TestApp) -> Vec<std::path::PathBuf> {
    let mut found = vec![app.directory.path().join("data/datasets")];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.is_dir() {
            found.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn samples_stand_in_the_row_of_their_class() {
    let app = app().await;
    let before = files(&app);
    let sheet = decoded(&bytes(&app, "/datasets/shapes/samples.png?seed=3&size=32").await);
    let left = sheet.width() - 8 * (CELL + GAP);
    for (row, disc) in [(0, true), (1, false)] {
        let of_class: Vec<RgbImage> =
            (0..20).filter(|seed| (seed % 2 == 0) == disc).map(|seed| decoded(&picture(disc, seed))).collect();
        for column in 0..8 {
            let tile = shown(&sheet, left + column * (CELL + GAP), GAP + row * (CELL + GAP));
            assert!(of_class.contains(&tile), "row {row}, column {column}");
        }
    }
    let again = decoded(&bytes(&app, "/datasets/shapes/samples.png?seed=3").await);
    assert!(sheet == again, "the same seed, another sheet");
    assert!(
        sheet != decoded(&bytes(&app, "/datasets/shapes/samples.png?seed=4").await),
        "another seed, the same sheet"
    );
    // A size that the import did not pack.
    bytes(&app, "/datasets/shapes/samples.png?size=64").await;
    assert_eq!(files(&app), before, "looking stored something");
}

#[tokio::test]
async fn augmentations_are_what_the_parameters_ask_for() {
    let app = app().await;
    let view = |sheet: &RgbImage, column: u32, row: u32, down: u32| {
        shown(sheet, GAP + column * ACROSS, GAP + LINE + row * down)
    };
    let off = "preset=paper&augment_flip=false&augment_pad=0&seed=5";
    let plain = decoded(&bytes(&app, &format!("/datasets/shapes/augmentations.png?k=3&{off}")).await);
    assert_eq!(plain.width(), GAP + 4 * ACROSS);
    for row in 0..6 {
        let original = view(&plain, 0, row, CELL + GAP);
        for column in 1..4 {
            assert!(view(&plain, column, row, CELL + GAP) == original, "nothing was switched on");
        }
    }
    let gray =
        decoded(&bytes(&app, &format!("/datasets/shapes/augmentations.png?k=1&augment_grayscale=1&{off}")).await);
    let (original, gray) = (view(&gray, 0, 0, CELL + LINE + GAP), view(&gray, 1, 0, CELL + LINE + GAP));
    assert!(gray.pixels().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
    for (colour, gray) in original.pixels().zip(gray.pixels()) {
        let luma = 0.2989 * f64::from(colour[0]) + 0.587 * f64::from(colour[1]) + 0.114 * f64::from(colour[2]);
        assert!((luma - f64::from(gray[0])).abs() < 1.0, "{colour:?} became {gray:?}");
    }
    let seven = "preset=paper&augment_policy=one_of_seven&augment_flip=true&augment_pad=0&augment_brightness=.5&augment_contrast=0.5\
                 &augment_saturation=0.5&augment_gamma=0.5&augment_grayscale=0.15&augment_rotation=10&augment_fill=black";
    let sheet = decoded(&bytes(&app, &format!("/datasets/shapes/augmentations.png?k=7&{seven}")).await);
    for row in 0..6 {
        let at = |column: u32| view(&sheet, column, row, CELL + LINE + GAP);
        let (original, views): (RgbImage, Vec<RgbImage>) = (at(0), (1..8).map(at).collect());
        let gray = |view: &&RgbImage| view.pixels().all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]);
        assert_eq!(views.iter().filter(gray).count(), 1, "all seven, each once");
        assert!(views.contains(&imageops::flip_horizontal(&original)));
    }
}

#[tokio::test]
async fn mixed_pictures_lie_between_their_two() {
    let app = app().await;
    let sheet = decoded(&bytes(&app, "/datasets/shapes/mixup.png?alpha=0.75&seed=1").await);
    let all: Vec<RgbImage> = (0..20).map(|seed| decoded(&picture(seed % 2 == 0, seed))).collect();
    for row in 0..6 {
        let top = GAP + LINE + row * (CELL + LINE + GAP);
        let at = |column: u32| shown(&sheet, GAP + column * ACROSS, top);
        let (own, partner, mixed) = (at(0), at(1), at(2));
        for (column, picture) in [(0, &own), (1, &partner)] {
            let place = all.iter().position(|one| one == picture).expect("a picture of the data set");
            // Its class stands under it: that of the stripes has more letters than that of the discs.
            let (left, above) = (GAP + column * ACROSS + 4 * 8, top + CELL + 2);
            let letters = imageops::crop_imm(&sheet, left, above, 3 * 8, 8).to_image();
            assert_eq!(letters.pixels().any(|pixel| pixel.0 != [255; 3]), place % 2 == 1, "row {row}, column {column}");
        }
        for ((own, partner), mixed) in own.pixels().zip(partner.pixels()).zip(mixed.pixels()) {
            for channel in 0..3 {
                let (own, partner, mixed) = (own[channel], partner[channel], mixed[channel]);
                assert!((own.min(partner)..=own.max(partner)).contains(&mixed), "{own}, {partner}: {mixed}");
            }
        }
        let distance = |a: &RgbImage, b: &RgbImage| -> u32 {
            a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
        };
        assert!(distance(&mixed, &own) <= distance(&mixed, &partner), "nearer to its partner than to itself");
    }
    let plot = |sheet: &RgbImage| {
        let left = GAP + 3 * ACROSS;
        imageops::crop_imm(sheet, left, 0, sheet.width() - left, 180).to_image()
    };
    let sharper = decoded(&bytes(&app, "/datasets/shapes/mixup.png?alpha=8&seed=1").await);
    assert_ne!(plot(&sheet), plot(&sharper), "the distribution does not depend on alpha");
}

#[tokio::test]
async fn every_wrong_parameter_is_named() {
    let app = app().await;
    let ask = async |query: &str| {
        let path = format!("/datasets/shapes/augmentations.png?{query}");
        pointers(&problem(app.get(&path).send().await.unwrap(), 422).await)
    };
    assert_eq!(
        ask("tusk=1&k=0&augment_gamma=2&augment_flip=perhaps").await,
        ["?augment_flip", "?augment_gamma", "?k", "?tusk"]
    );
    assert_eq!(ask("size=256").await, ["?size"]);
    assert_eq!(ask("augment_rotation=NaN").await, ["?augment_rotation"]);
    assert_eq!(ask("preset=fast").await, ["?preset"]);
    assert_eq!(ask("lambda_u=3").await, ["?lambda_u"], "it changes no picture");
    assert!(ask("augment_policy=one_of_seven&k=9").await.contains(&"?k".to_owned()));
    for sheet in ["samples", "augmentations", "mixup"] {
        problem(app.get(&format!("/datasets/none/{sheet}.png")).send().await.unwrap(), 404).await;
    }
}

#[tokio::test]
async fn a_data_set_that_cannot_be_trained_on_can_be_looked_at() {
    let app = TestApp::start().await;
    let mut drawn = data_set(20, 6);
    // One row is left of the stripes.
    let (header, rows) = drawn.train.split_once('\n').unwrap();
    let mut stripes = 0;
    let kept = rows.lines().filter(|row| !row.contains("stripes") || std::mem::replace(&mut stripes, 1) == 0);
    drawn.train = format!("{header}\n{}\n", kept.collect::<Vec<_>>().join("\n"));
    app.import("shapes", &drawn).await;
    let job = serde_json::json!({"dataset": "shapes"});
    problem(app.post("/jobs").json(&job).send().await.unwrap(), 422).await;
    for sheet in ["samples", "augmentations", "mixup"] {
        bytes(&app, &format!("/datasets/shapes/{sheet}.png")).await;
    }
    app.stop().await;
}

#[tokio::test]
async fn a_data_set_that_is_deleted_while_its_sheets_wait_is_not_there() {
    let app = app().await;
    let sheets: Vec<_> = (0..8)
        .map(|seed| app.get(&format!("/datasets/shapes/augmentations.png?size=128&k=16&seed={seed}")))
        .map(|request| tokio::spawn(request.send()))
        .collect();
    // One sheet is drawn at a time, so that the others wait with a row that was there.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(app.delete("/datasets/shapes").send().await.unwrap().status(), 204);
    let mut missing = 0;
    for sheet in sheets {
        let status = sheet.await.unwrap().unwrap().status();
        assert!([200, 404].contains(&status.as_u16()), "{status}");
        missing += usize::from(status == 404);
    }
    assert!(missing > 0, "all of them were drawn before: nothing was tested");
    app.stop().await;
}
