//! Versions that nobody trained: their files are written beside the server, so that all that is told of them follows from what
//! stands there. What keeps a version from serving, its test on a later data set, and what is counted and refused of images.

use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, ImageFormat, RgbImage};
use mixmatch::augment::network_input;
use mixmatch::model::{Golden, ModelManifest};
use mixmatch::nn::{Head, Mode, Weights, build, file};
use mixmatch::train::config::TrainConfig;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reqwest::multipart::{Form, Part};
use serde_json::json;
use sqlx::SqlitePool;
use tch::{Device, Kind, Tensor};

use super::app::{TestApp, expect, problem, shapes_manifest};
use super::pictures::{Drawn, data_set, picture};

const SIDE: u32 = 32;

/// The weights of a network for discs and stripes that has learned nothing, as a file, and its description with the golden answers of
/// those weights.
fn untrained() -> (Vec<u8>, ModelManifest) {
    let network = build("wrn-10-1", Head::Linear, 2, Kind::Float).unwrap();
    let weights = Weights::initialise(network.layout(), Device::Cpu, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
    let path = tempfile::NamedTempFile::new().unwrap();
    file::save(network.as_ref(), &weights, path.path()).unwrap();

    let (pixels, count) = Golden::images(3, SIDE);
    let side = i64::from(SIDE);
    let images = Tensor::from_slice(&pixels).f_view([count as i64, side, side, 3]).unwrap();
    let _no_grad = tch::no_grad_guard();
    let logits = network.forward(&weights, &network_input(&images).unwrap(), Mode::Eval).unwrap();
    let golden = Golden { seed: 3, logits: Vec::<Vec<f32>>::try_from(logits).unwrap() };
    let config = TrainConfig { size: SIDE, ..TrainConfig::default() };
    let manifest = ModelManifest { preprocess: config.preprocess(), golden, ..shapes_manifest() };
    (std::fs::read(path.path()).unwrap(), manifest)
}

/// Publishes what a run would have left behind; gives where the weights and the description lie.
async fn publish(app: &TestApp, name: &str, version: u32, weights: &[u8], manifest: &ModelManifest) -> [PathBuf; 2] {
    let keep = |bytes: &[u8]| {
        let sha256 = mixmatch::sha256::of(bytes);
        let path = app.directory.path().join("data/artifacts/sha256").join(&sha256[..2]).join(&sha256);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        (sha256, path)
    };
    let (weights, manifest) = (keep(weights), keep(&serde_json::to_vec(manifest).unwrap()));
    let database = app.directory.path().join("data/mixmatch.db");
    let database = SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    let insert =
        "INSERT INTO model_versions (name, version, classes, metrics, weights_sha256, manifest_sha256, created_at)
         VALUES (?, ?, '[\"disc\",\"stripes\"]', '{}', ?, ?, 0)";
    let insert = sqlx::query(insert).bind(name).bind(version).bind(&weights.0).bind(&manifest.0);
    insert.execute(&database).await.unwrap();
    database.close().await;
    [weights.1, manifest.1]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_what_was_published_or_answers_otherwise_serves_nobody() {
    let app = TestApp::start().await;
    let (weights, manifest) = untrained();
    publish(&app, "shape", 1, &weights, &manifest).await;
    let mut elsewhere = manifest.clone();
    elsewhere.golden.logits[0][0] += 1000.0;
    publish(&app, "shape", 2, &weights, &elsewhere).await;
    let later = ModelManifest { created_at: "2026-01-02T00:00:00Z".into(), ..manifest };
    let [_, description] = publish(&app, "shape", 3, &weights, &later).await;
    // Its classes, the other way round.
    let swapped = ModelManifest { classes: vec!["stripes".into(), "disc".into()], ..later };
    std::fs::write(description, serde_json::to_vec(&swapped).unwrap()).unwrap();

    let alias = async |version: u32| {
        app.put("/models/shape/aliases/steady").json(&json!({"version": version})).send().await.unwrap()
    };
    expect(alias(1).await, 200).await;
    for (version, why) in [(2, "fails its golden check"), (3, "its content has changed")] {
        let refused = problem(alias(version).await, 409).await;
        assert!(refused["detail"].as_str().unwrap().contains(why), "{refused}");
        let asked = app.post(&format!("/predict?model=shape:{version}")).header("content-type", "image/png");
        problem(asked.body(picture(true, 1)).send().await.unwrap(), 500).await;
    }
    assert_eq!(app.json("/models/shape").await["aliases"], json!({"steady": 1}));
    app.stop().await;
}

/// 12 discs and 3 stripes to test on, so that no figure is the same for both classes.
fn mostly_discs() -> Drawn {
    let drawn = data_set(20, 24);
    let rows = drawn.test.lines().enumerate().filter(|(at, row)| *at < 7 || !row.contains("stripes"));
    let test = rows.map(|(_, row)| format!("{row}\n")).collect();
    Drawn { test, ..drawn }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_test_is_of_the_class_the_epoch_and_the_temperature_that_the_version_says() {
    let app = TestApp::start().await;
    app.import("shapes", &mostly_discs()).await;
    let (weights, manifest) = untrained();
    let of_stripes = ModelManifest {
        temperature: 2.5,
        config: json!({"positive_class": "stripes"}),
        validation: json!({"epoch": 7}),
        ..manifest
    };
    let [weights, _] = publish(&app, "shape", 1, &weights, &of_stripes).await;
    let path = "/models/shape/versions/1/test?dataset=shapes";
    let told = app.json(path).await;
    let (test, classes) = (&told["test"], &told["test"]["classes"]);
    assert_eq!((&classes[0]["images"], &classes[1]["images"]), (&json!(12), &json!(3)), "{told:#}");
    assert_ne!(classes[0]["f1"], classes[1]["f1"], "one figure for both would tell nothing: {told:#}");
    assert_eq!(test["positive_class"], "stripes");
    for figure in ["f1", "precision", "recall"] {
        assert_eq!(test[figure], classes[1][figure], "{figure}: {told:#}");
    }
    assert_eq!((&test["best_epoch"], &test["temperature"]), (&json!(7), &json!(2.5)), "{told:#}");

    // Weights that are not those which were published any more are not measured under that version's name.
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let refused = problem(app.get(path).send().await.unwrap(), 500).await;
    assert!(refused["detail"].as_str().unwrap().contains("the model could not be tested"), "{refused}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_the_server_does_not_take_are_told_apart_and_counted_apart() {
    let app = TestApp::with(|config| config.limits.image.max_pixels = u64::from(SIDE * SIDE)).await;
    let (weights, manifest) = untrained();
    // All tests of this process count on one meter: nobody else has this name.
    publish(&app, "metered", 1, &weights, &manifest).await;
    let mut larger = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(RgbImage::new(SIDE + 1, SIDE)).write_to(&mut larger, ImageFormat::Png).unwrap();
    let images = [picture(true, 1), b"no picture".to_vec(), larger.into_inner(), picture(false, 2)];
    let form = images.into_iter().fold(Form::new(), |form, image| form.part("image", Part::bytes(image)));
    let answer = expect(app.post("/predict?model=metered:1").multipart(form).send().await.unwrap(), 200).await;
    let codes: Vec<&str> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["problem"]["code"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(codes, ["none", "unsupported_image_format", "image_too_large", "none"], "{answer:#}");

    let numbers = expect(app.get("/metrics").send().await.unwrap(), 200).await;
    let count = |outcome: &str| {
        let series = format!("mixmatch_predict_images_total{{model=\"metered\",outcome=\"{outcome}\"}} ");
        numbers.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned))
    };
    assert_eq!((count("classified").as_deref(), count("rejected").as_deref()), (Some("2"), Some("2")), "{numbers}");
    app.stop().await;
}
