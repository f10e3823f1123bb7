//! `/datasets` over HTTP. What the importer itself refuses stands in `tests/import.rs`.

use std::io::Cursor;
use std::time::{Duration, Instant};

use image::{DynamicImage, ImageFormat, RgbImage};
use reqwest::multipart::{Form, Part};
use serde_json::json;

use super::app::{TestApp, expect, form, pointers, problem};
use super::pictures::{Drawn, archive, data_set, picture};

/// The form of a data set whose training sheet names eight of its twenty pictures.
fn sheet_of_eight(name: &str) -> Form {
    let drawn = data_set(20, 6);
    let train = drawn.train.lines().take(9).map(|line| format!("{line}\n")).collect();
    form(name, &Drawn { train, ..drawn })
}

#[tokio::test]
async fn an_import_answers_with_counts_and_can_be_named_by_id_or_name() {
    let app = TestApp::start().await;
    let created = app.import("shapes", &data_set(20, 6)).await;
    assert_eq!(created["classes"], serde_json::json!(["disc", "stripes"]));
    assert_eq!(created["counts"]["train"]["disc"], 10);
    assert_eq!(created["counts"]["test"]["stripes"], 3);
    let by_id = app.json(&format!("/datasets/{}", created["id"].as_str().unwrap())).await;
    assert_eq!(by_id, app.json("/datasets/shapes").await);
    assert_eq!(app.json("/datasets").await["items"][0]["name"], "shapes");
    assert!(app.json("/datasets/shapes/report").await["rejected"].as_array().unwrap().is_empty());

    let taken = app.post("/datasets").multipart(form("shapes", &data_set(20, 6))).send().await.unwrap();
    assert_eq!(pointers(&problem(taken, 409).await), ["/name"]);
    expect(app.delete("/datasets/shapes").send().await.unwrap(), 204).await;
    problem(app.get("/datasets/shapes").send().await.unwrap(), 404).await;
    let left = std::fs::read_dir(app.directory.path().join("data/datasets")).unwrap().count();
    assert_eq!(left, 0, "a deleted data set's files are gone");
}

/// Nobody would have what it makes.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_does_not_wait_for_an_import() {
    let app = TestApp::start().await;
    // Little to send, and a long time at work.
    let mut flat = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(RgbImage::new(4000, 4000)).write_to(&mut flat, ImageFormat::Png).unwrap();
    let files: Vec<(String, Vec<u8>)> = (0..300).map(|at| (format!("{at}.png"), flat.get_ref().clone())).collect();
    let rows = |files: &[(String, Vec<u8>)]| {
        let rows = files.iter().enumerate().map(|(at, (name, _))| format!("{name},{}\n", ["disc", "stripes"][at % 2]));
        format!("image,label\n{}", rows.collect::<String>())
    };
    let drawn = Drawn { images: archive(&files), train: rows(&files[4..]), test: rows(&files[..4]) };
    let sending = tokio::spawn(app.post("/datasets").multipart(form("flat", &drawn)).send());
    let sets = app.directory.path().join("data/datasets");
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&sets).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let began = Instant::now();
    while !names().iter().any(|name| name.starts_with(".import-")) {
        assert!(began.elapsed() < Duration::from_secs(60), "it did not begin: {:?}", names());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _directory = app.stop().await;
    let refused = problem(sending.await.unwrap().unwrap(), 503).await;
    assert!(refused["detail"].as_str().unwrap().contains("nothing was imported"), "{refused}");
    assert_eq!(names(), Vec::<String>::new());
}

#[tokio::test]
async fn bad_rows_are_listed_with_their_reasons() {
    let app = TestApp::start().await;
    let Drawn { images, mut train, test } = data_set(20, 6);
    train.push_str("missing.png,disc,0\n");
    let created = app.import("shapes", &Drawn { images, train, test }).await;
    assert_eq!(created["report"]["rejected_rows"], 1);
    let rejected = &created["report"]["rejected"][0];
    assert_eq!((rejected["sheet"].as_str(), rejected["row"].as_u64()), (Some("train"), Some(22)), "{rejected}");
    assert!(rejected["detail"].as_str().unwrap().len() > 10, "{rejected}");
}

#[tokio::test]
async fn images_that_no_sheet_names_are_learned_from_if_the_form_says_so() {
    let app = TestApp::start().await;
    let warnings = |created: &serde_json::Value| -> Vec<String> {
        let warnings = created["report"]["warnings"].as_array().unwrap();
        warnings.iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect()
    };
    let send = |form: Form| app.post("/datasets").header("idempotency-key", "key-1").multipart(form).send();
    let created = expect(send(sheet_of_eight("plain")).await.unwrap(), 201).await;
    assert_eq!(created["counts"]["unlabelled"], 0, "{created}");
    assert!(warnings(&created).contains(&"unnamed_files".to_owned()), "{created}");

    // It is part of what is asked for, and so of what a key stands for.
    let other = problem(send(sheet_of_eight("plain").text("unlisted", "unlabelled")).await.unwrap(), 422).await;
    assert_eq!(pointers(&other), ["Idempotency-Key"]);
    let learned = sheet_of_eight("learned").text("unlisted", "unlabelled");
    let created = expect(app.post("/datasets").multipart(learned).send().await.unwrap(), 201).await;
    assert_eq!(created["counts"]["unlabelled"], 12, "{created}");
    assert_eq!((&created["counts"]["train"]["disc"], &created["counts"]["test"]["disc"]), (&json!(4), &json!(3)));
    assert!(warnings(&created).contains(&"unlisted_images".to_owned()), "{created}");
    assert!(!warnings(&created).contains(&"unnamed_files".to_owned()), "{created}");
}

#[tokio::test]
async fn an_unlisted_image_that_cannot_be_read_is_pointed_at_in_the_archive() {
    let app = TestApp::start().await;
    let mut files: Vec<(String, Vec<u8>)> = (0..8).map(|at| (format!("{at}.png"), picture(at % 2 == 0, at))).collect();
    files.push(("broken.png".to_owned(), b"no picture".to_vec()));
    let sheet = |from: u32| -> String {
        let row = |at: u32| format!("{at}.png,{}\n", if at.is_multiple_of(2) { "disc" } else { "stripes" });
        format!("image,label\n{}", (from..from + 2).map(row).collect::<String>())
    };
    let drawn = Drawn { images: archive(&files), train: sheet(0), test: sheet(2) };
    let form = form("strict", &drawn).text("unlisted", "unlabelled").text("strict", "true");
    let answer = problem(app.post("/datasets").multipart(form).send().await.unwrap(), 422).await;
    assert_eq!(pointers(&answer), ["/archive/9"]);
    assert_eq!(answer["errors"][0]["code"], "unsupported_image_format");
}

#[tokio::test]
async fn an_image_of_more_pixels_than_the_server_takes_is_left_out() {
    let app = TestApp::with(|config| config.limits.image.max_pixels = 32 * 32).await;
    let mut files: Vec<(String, Vec<u8>)> = (0..8).map(|at| (format!("{at}.png"), picture(at % 2 == 0, at))).collect();
    let mut larger = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(RgbImage::new(33, 32)).write_to(&mut larger, ImageFormat::Png).unwrap();
    files.push(("larger.png".to_owned(), larger.into_inner()));
    let sheet = |from: u32| -> String {
        let row = |at: u32| format!("{at}.png,{}\n", if at.is_multiple_of(2) { "disc" } else { "stripes" });
        format!("image,label\n{}", (from..from + 4).map(row).collect::<String>())
    };
    let drawn = Drawn { images: archive(&files), train: sheet(0) + "larger.png,disc\n", test: sheet(4) };
    let created = app.import("shapes", &drawn).await;
    let rejected = created["report"]["rejected"].as_array().unwrap();
    let told: Vec<_> = rejected.iter().map(|row| (&row["image"], &row["code"])).collect();
    assert_eq!(told, [(&json!("larger.png"), &json!("image_too_large"))], "{created:#}");
    assert_eq!(created["counts"]["train"], json!({"disc": 2, "stripes": 2}));
}

#[tokio::test]
async fn a_wrong_form_names_every_field() {
    let app = TestApp::start().await;
    let wrong =
        Form::new().text("name", "../etc").text("tusk", "shape").text("strict", "maybe").text("unlisted", "all");
    let answer = problem(app.post("/datasets").multipart(wrong).send().await.unwrap(), 422).await;
    assert_eq!(pointers(&answer), ["/images", "/name", "/strict", "/task", "/train", "/tusk", "/unlisted"]);
    let errors = answer["errors"].as_array().unwrap();
    let unlisted = errors.iter().find(|error| error["pointer"] == "/unlisted").unwrap();
    assert_eq!(unlisted["detail"], "unlisted is \"all\", allowed is ignore or unlabelled");
    problem(app.post("/datasets").json(&1).send().await.unwrap(), 415).await;
}

#[tokio::test]
async fn a_form_in_which_no_test_file_was_chosen_has_none() {
    let app = TestApp::start().await;
    let drawn = data_set(20, 6);
    let form = |name: &str, test: Part| {
        Form::new()
            .text("name", name.to_owned())
            .text("task", "shape")
            .part("images", Part::bytes(drawn.images.clone()).file_name("images.zip"))
            .part("train", Part::bytes(drawn.train.clone().into_bytes()).file_name("train.csv"))
            .part("test", test)
    };
    for (name, part) in
        [("unnamed", Part::bytes(Vec::<u8>::new())), ("browser", Part::bytes(Vec::<u8>::new()).file_name(""))]
    {
        let created = expect(app.post("/datasets").multipart(form(name, part)).send().await.unwrap(), 201).await;
        let warnings = created["report"]["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(|warning| warning["code"] == "no_test_sheet"), "{created}");
    }
    // A file that was chosen and holds nothing is a mistake.
    let chosen = form("chosen", Part::bytes(Vec::<u8>::new()).file_name("test.csv"));
    let answer = problem(app.post("/datasets").multipart(chosen).send().await.unwrap(), 422).await;
    assert!(answer.to_string().contains("the test sheet has no header row"), "{answer}");
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let drawn = data_set(20, 6);
    let no_zip = Drawn { images: b"this is no archive".to_vec(), train: drawn.train.clone(), test: drawn.test.clone() };
    problem(app.post("/datasets").multipart(form("a", &no_zip)).send().await.unwrap(), 422).await;
    let one_class = Drawn { train: drawn.train.replace("stripes", "disc"), ..drawn };
    problem(app.post("/datasets").multipart(form("b", &one_class)).send().await.unwrap(), 422).await;
    for place in ["datasets", "uploads"] {
        let path = app.directory.path().join("data").join(place);
        let left: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
}

#[tokio::test]
async fn an_upload_beyond_the_limit_is_413() {
    let app = TestApp::with(|config| config.limits.upload_bytes = 10_000).await;
    let big = Form::new()
        .text("name", "big")
        .text("task", "shape")
        .part("images", Part::bytes(vec![0; 200_000]).file_name("images.zip"));
    let answer = problem(app.post("/datasets").multipart(big).send().await.unwrap(), 413).await;
    assert!(answer["detail"].as_str().unwrap().contains("--max-upload"), "{answer}");
}

#[tokio::test]
async fn a_data_set_that_a_job_needs_stays() {
    let app = TestApp::with_child("sleep 600", |_| {}).await;
    app.small_data_set().await;
    let job = app.queue(&super::app::tiny_job("shapes")).await;
    problem(app.delete("/datasets/shapes").send().await.unwrap(), 409).await;
    expect(app.post(&format!("/jobs/{job}/cancel")).send().await.unwrap(), 202).await;
    app.until(&job, &["canceled"]).await;
    expect(app.delete("/datasets/shapes").send().await.unwrap(), 204).await;
    app.stop().await;
}
