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

/// 80 photos to train on and 20 to test, a tenth of each of nobody.
fn photos() -> Drawn {
    let mut files = Vec::new();
    let mut sheet = |count: usize, seed: u64, prefix: &str| {
        let mut text = "image,label\n".to_owned();
        for (index, drawn) in draw(count, seed, prefix).unwrap().into_iter().enumerate() {
            let name = format!("{prefix}{index}.png");
            text.push_str(&format!("{name},{}\n", drawn.label));
            let at = index as u32 + seed as u32;
            let shown = if index % 10 == 0 { landscape(at) } else { photo(&drawn.bytes, at) };
            files.push((name, png(&shown)));
        }
        text
    };
    let (train, test) = (sheet(80, 11, "train"), sheet(20, 12, "test"));
    Drawn { images: archive(&files), train, test }
}

async fn predict(app: &TestApp, query: &str, image: &RgbImage) -> Value {
    let request =
        app.post(&format!("/predict?model=shape{query}")).header("content-type", "image/png").body(png(image));
    let answer = expect(request.send().await.unwrap(), 200).await;
    assert!(answer["results"][0]["label"].is_string(), "{answer:#}");
    answer["results"][0].clone()
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
    let found = (85..=90).find(|found| logs.contains(&format!("a face was found in {found} of 100 images")));
    let without = 100 - found.unwrap_or_else(|| panic!("{logs}"));
    assert!(logs.contains(&format!("no face was found in {without} of 100 images")), "{logs}");
    let card = app.get("/models/shape/versions/1/card").send().await.unwrap().text().await.unwrap();
    for said in [&format!("no face was found in {without} of 100 images"), "photos cut to the face", "face_found = no"]
    {
        assert!(card.contains(said), "no {said:?} in {card}");
    }
    // Asked again, the same test images are the same groups.
    let again = app.json("/models/shape/versions/1/test?dataset=photos").await;
    let groups = |told: &Value| -> Vec<String> {
        let groups = told["test"]["groups"].as_array().unwrap().iter();
        groups.map(|group| format!("{} {} {}", group["attribute"], group["value"], group["images"])).collect()
    };
    assert!(groups(&again).len() == 2 && groups(&again) == groups(&job), "{again:#}");

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
