//! Photos that show more than a face: `fit: face` from the pictures of a data set to the answers about new photos.

use std::process::Command;

use image::imageops::{FilterType, overlay, resize};
use image::{ImageFormat, Rgb, RgbImage};
use mixmatch::demo::dataset::draw;
use mixmatch::imaging::{DecodeLimits, decode};
use serde_json::{Value, json};

use super::app::{TestApp, expect};
use super::pictures::{Drawn, archive};

const SIDE: u32 = 100;

/// A photo of nothing, 260×180.
fn landscape(seed: u32) -> RgbImage {
    RgbImage::from_fn(260, 180, |x, y| Rgb([(x / 3 + seed) as u8, (y / 2) as u8 + 40, 90]))
}

/// Where `seed` puts somebody.
fn place(seed: u32) -> (u32, u32) {
    (seed * 37 % (260 - SIDE), seed * 53 % (180 - SIDE))
}

/// A drawn person somewhere in it.
fn photo(drawn: &[u8], seed: u32) -> RgbImage {
    let person = decode(drawn, &DecodeLimits::default()).unwrap();
    let (left, top) = place(seed);
    let mut photo = landscape(seed);
    overlay(&mut photo, &resize(&person, SIDE, SIDE, FilterType::CatmullRom), i64::from(left), i64::from(top));
    photo
}

fn png(image: &RgbImage) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// 80 photos to train on, of which every tenth shows nobody, and 20 to test, of which every fourth does: the first 20 tell nothing of the
/// last.
fn photos() -> Drawn {
    let mut files = Vec::new();
    let mut sheet = |count: usize, seed: u64, prefix: &str, nobody: usize| {
        let mut text = "image,label\n".to_owned();
        for (index, drawn) in draw(count, seed, prefix).unwrap().into_iter().enumerate() {
            let name = format!("{prefix}{index}.png");
            text.push_str(&format!("{name},{}\n", drawn.label));
            let at = index as u32 + seed as u32;
            let shown = if index % nobody == 0 { landscape(at) } else { photo(&drawn.bytes, at) };
            files.push((name, png(&shown)));
        }
        text
    };
    let (train, test) = (sheet(80, 11, "train", 10), sheet(20, 12, "test", 4));
    Drawn { images: archive(&files), train, test }
}

async fn predict(app: &TestApp, query: &str, image: &RgbImage) -> Value {
    let request =
        app.post(&format!("/predict?model=shape{query}")).header("content-type", "image/png").body(png(image));
    let answer = expect(request.send().await.unwrap(), 200).await;
    assert!(answer["results"][0]["label"].is_string(), "{answer:#}");
    answer["results"][0].clone()
}

/// Asked again, packed and not, the same test images are the same groups, and the same answers are withheld.
async fn check_test(app: &TestApp, job: &Value) {
    let told = |told: &Value| {
        let (test, groups) = (&told["test"], told["test"]["groups"].as_array().unwrap().iter());
        let groups = groups.map(|group| format!("{} {} {}", group["attribute"], group["value"], group["images"]));
        (groups.collect::<Vec<_>>(), test["faceless"].clone())
    };
    let (groups, faceless) = told(job);
    assert!(groups.len() == 2 && (5..10).contains(&faceless.as_u64().unwrap()), "{job:#}");
    let path = "/models/shape/versions/1/test?dataset=photos";
    let packed = app.json(path).await;
    assert_eq!(told(&packed), (groups.clone(), faceless.clone()), "{packed:#}");
    // One of two classes is always at least as likely as not: at the least threshold only what has no face is withheld.
    let least = &packed["test"]["abstention"][0];
    let answered = 1.0 - faceless.as_f64().unwrap() / 20.0;
    assert_eq!(least["threshold"], 0.5, "{packed:#}");
    assert!((least["coverage"].as_f64().unwrap() - answered).abs() < 1e-9, "{packed:#}");

    // Faces are looked for in fewer at a time than there are.
    let set = packed["dataset"]["id"].as_str().unwrap();
    std::fs::remove_dir_all(app.directory.path().join("data/datasets").join(set).join("packed")).unwrap();
    let unpacked = app.json(path).await;
    assert_eq!(told(&unpacked), (groups, faceless), "{unpacked:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn photos_are_cut_to_the_face_in_training_and_in_predictions() {
    let app = TestApp::start().await;
    app.import("photos", &photos()).await;
    let sheet = app.get("/datasets/photos/samples.png?fit=face&size=32").send().await.unwrap();
    assert_eq!(sheet.status(), 200);

    let request = json!({
        "dataset": "photos", "fit": "face", "network": "wrn-10-1", "size": 32, "batch": 8, "epochs": 2, "steps_per_epoch": 20,
    });
    let id = app.queue(&request).await;
    let job = app.until(&id, &["succeeded", "failed", "canceled"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");
    let logs = app.json(&format!("/jobs/{id}/logs")).await.to_string();
    let found = (82..=87).find(|found| logs.contains(&format!("a face was found in {found} of 100 images")));
    let without = 100 - found.unwrap_or_else(|| panic!("{logs}"));
    assert!(logs.contains(&format!("no face was found in {without} of 100 images")), "{logs}");
    let card = app.get("/models/shape/versions/1/card").send().await.unwrap().text().await.unwrap();
    for said in [&format!("no face was found in {without} of 100 images"), "photos cut to the face", "face_found = no"]
    {
        assert!(card.contains(said), "no {said:?} in {card}");
    }
    check_test(&app, &job).await;

    let fresh = draw(1, 99, "new").unwrap();
    for seed in [3, 4] {
        let result = predict(&app, "&threshold=0", &photo(&fresh[0].bytes, seed)).await;
        let (left, top) = place(seed);
        let at = |field: &str| result["face"][field].as_f64().unwrap();
        let middle = (at("left") + at("side") / 2.0 - f64::from(left), at("top") + at("side") / 2.0 - f64::from(top));
        assert!((30.0..70.0).contains(&middle.0) && (30.0..80.0).contains(&middle.1), "{result:#}");
        assert_eq!(result["abstained"], false, "{result:#}");
    }
    let nobody = predict(&app, "", &landscape(5)).await;
    assert!(nobody.as_object().unwrap().contains_key("face") && nobody["face"].is_null(), "{nobody:#}");
    assert_eq!(nobody["abstained"], false);
    assert_eq!(predict(&app, "&threshold=0", &landscape(5)).await["abstained"], true);

    // The command answers as the server does.
    let (somebody, nobody) = (photo(&fresh[0].bytes, 3), landscape(5));
    let served = [predict(&app, "&threshold=0", &somebody).await, predict(&app, "&threshold=0", &nobody).await];
    let directory = app.stop().await;
    for (name, image) in [("somebody.png", &somebody), ("nobody.png", &nobody)] {
        std::fs::write(directory.path().join(name), png(image)).unwrap();
    }
    let arguments = ["predict", "--model", "shape", "--threshold", "0", "somebody.png", "nobody.png"];
    let asked = Command::new(env!("CARGO_BIN_EXE_mixmatch")).current_dir(&directory).args(arguments).output().unwrap();
    assert!(asked.status.success(), "{asked:?}");
    let lines = String::from_utf8(asked.stdout).unwrap();
    let told: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2, "{lines}");
    for (told, served) in told.iter().zip(&served) {
        for field in ["label", "face", "abstained"] {
            assert!(told.as_object().unwrap().contains_key(field), "{told:#}");
            assert_eq!(told[field], served[field]);
        }
        // Alone and beside another in a batch: float32 differs in the last digit, bf16 in the third.
        let [alone, beside] = [served, told].map(|answer| answer["probability"].as_f64().unwrap());
        assert!((alone - beside).abs() < 0.02, "{alone} {beside}");
    }
}
