//! Predictions in int8.

use mixmatch::config::PredictPrecision;
use mixmatch::nn::int8;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::app::{TestApp, expect, shapes_job};
use super::pictures::picture;

async fn predicted(app: &TestApp, version: u32) -> Value {
    let mut form = Form::new();
    for seed in 300..316 {
        let name = format!("{seed:04}.png");
        form = form.part("image", Part::bytes(picture(seed % 2 == 0, seed)).file_name(name));
    }
    let answer = app.post(&format!("/predict?model=shape:{version}")).multipart(form).send().await.unwrap();
    expect(answer, 200).await
}

/// What the run said of an image: its class, and how sure it was.
async fn at_export(app: &TestApp, version: u32) -> Vec<(String, String, f64)> {
    let rows = app.get(&format!("/models/shape/versions/{version}/predictions")).send().await.unwrap();
    let rows = rows.text().await.unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        (cells[0].to_owned(), cells[3].to_owned(), cells[4].parse().unwrap())
    };
    rows.lines().skip(1).map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_answers_in_int8_nearly_what_it_answers_otherwise() {
    let app = TestApp::with(|config| config.predict.precision = PredictPrecision::Int8).await;
    app.train_shapes().await;
    let fast = int8::is_fast();
    let ready = app.json("/readyz").await;
    let reason = ready["predict"]["reason"].as_str().unwrap();
    assert_eq!(reason.contains("compute in int8"), fast, "{ready:#}");
    assert_eq!(reason.contains("not fast at it"), !fast, "{ready:#}");

    let answers = predicted(&app, 1).await;
    let in_int8 = app.json("/readyz").await["predict"]["int8"].clone();
    assert_eq!(in_int8, if fast { json!(["shape:1"]) } else { json!([]) });
    let exact = at_export(&app, 1).await;
    for result in answers["results"].as_array().unwrap() {
        let (_, class, probability) = exact.iter().find(|(image, ..)| result["id"] == image.as_str()).unwrap();
        let probability_in_int8 = result["probabilities"][class].as_f64().unwrap();
        assert!((probability_in_int8 - probability).abs() < 0.05, "{result}: {class} {probability}");
    }

    let card = app.get("/models/shape/versions/1/card").header("accept", "application/json").send().await.unwrap();
    let card = expect(card, 200).await;
    if fast {
        let (validation, test) = (&card["int8"]["validation"], &card["int8"]["test"]);
        assert_eq!((&validation["images"], &test["images"]), (&card["split"]["validation"], &json!(60)), "{card:#}");
        let count = |of: &Value, name: &str| of[name].as_u64().unwrap();
        for of in [validation, test] {
            assert!(count(of, "same") + 2 >= count(of, "images"), "{card:#}");
            assert!(count(of, "right").abs_diff(count(of, "right_before")) <= count(of, "images") - count(of, "same"));
        }
        let accuracy = card["test"]["accuracy"].as_f64().unwrap();
        assert_eq!(count(test, "right_before"), (accuracy * 60.0).round() as u64, "{card:#}");
    } else {
        assert!(card["int8"].is_null(), "{card:#}");
    }

    // What is to be computed in float32 is.
    let mut job = shapes_job();
    (job["precision"], job["epochs"]) = (json!("float32"), json!(1));
    let id = app.queue(&job).await;
    assert_eq!(app.until(&id, &["succeeded", "failed"]).await["state"], "succeeded");
    predicted(&app, 2).await;
    let predict = app.json("/readyz").await["predict"].clone();
    assert!(predict["loaded"].as_array().unwrap().contains(&json!("shape:2")), "{predict:#}");
    assert_eq!(predict["int8"], in_int8, "{predict:#}");
}
