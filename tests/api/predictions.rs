//! What a version predicts for its data set: every image once, what to label next, what to doubt; and labels that were picked.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use serde_json::json;
use sqlx::Connection;

use super::app::{TestApp, expect, form, pointers, problem, tiny_job};
use super::pictures::{Drawn, data_set, picture};

/// A line of the CSV.
#[derive(Debug, PartialEq, Deserialize)]
struct Line {
    image: String,
    used: String,
    label: String,
    prediction: String,
    probability: f64,
    margin: f64,
    group: Option<u32>,
}

fn lines(text: &str) -> Vec<Line> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().collect::<Result<_, _>>().unwrap()
}

/// 60 labelled training pictures, 12 of them picked and one of those with the wrong label, 40 without a label, 20 of the test.
fn drawn() -> Drawn {
    let drawn = data_set(100, 20);
    let mut rows = drawn.train.lines();
    let mut train = format!("{},picked\n", rows.next().unwrap());
    for (at, row) in rows.enumerate() {
        let cells: Vec<&str> = row.split(',').collect();
        let label = match at {
            0 => "stripes",
            60.. => "",
            _ => cells[1],
        };
        let picked = if (48..60).contains(&at) { "yes" } else { "" };
        train.push_str(&format!("{},{label},{},{picked}\n", cells[0], cells[2]));
    }
    Drawn { train, ..drawn }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_predicts_every_image_of_its_data_set() {
    let app = TestApp::start().await;
    let imported = app.import("shapes", &drawn()).await;
    assert_eq!((&imported["counts"]["picked"], &imported["counts"]["unlabelled"]), (&json!(12), &json!(40)));
    let mut request = tiny_job("shapes");
    for (setting, value) in
        [("labelled", json!(44)), ("validation", json!(0.25)), ("epochs", json!(3)), ("steps_per_epoch", json!(25))]
    {
        request[setting] = value;
    }
    let id = app.queue(&request).await;
    let job = app.until(&id, &["succeeded", "failed"]).await;
    assert_eq!(job["state"], "succeeded", "{job:#}");

    let path = "/models/shape/versions/1/predictions";
    let answer = app.get(path).send().await.unwrap();
    let headers = answer.headers().clone();
    assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(headers["content-disposition"], "attachment; filename=\"shape-1.csv\"");
    let text = expect(answer, 200).await.as_str().unwrap().to_owned();
    let all = lines(&text);

    // Every image once, used as the card says: 12 of the 48 that were drawn validate, the other 36 and 8 of the picked train.
    let mut names: Vec<&str> = all.iter().map(|line| line.image.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, (0..120).map(|at| format!("{at:04}.png")).collect::<Vec<_>>());
    let used = |how: &str| all.iter().filter(|line| line.used == how).count();
    assert_eq!(["labelled", "validation", "test"].map(used), [44, 12, 20]);
    // Some drawings are near duplicates of one that validates.
    assert_eq!(used("unlabelled") + used("unused"), 44);
    let picked = |line: &&Line| ("0048.png".."0060.png").contains(&line.image.as_str());
    assert!(all.iter().filter(picked).all(|line| line.used != "validation"), "{text}");
    let card = app.get("/models/shape/versions/1/card").header("accept", "application/json").send();
    let card = expect(card.await.unwrap(), 200).await;
    assert_eq!((&card["split"]["left_out"], &card["split"]["picked"]), (&json!(used("unused")), &json!(8)));
    let card = app.get("/models/shape/versions/1/card").send().await.unwrap().text().await.unwrap();
    assert!(card.contains("8 of the labelled images were picked to be labelled, not drawn"), "{card}");
    for line in &all {
        let other = 1.0 - line.probability;
        assert!((line.margin - (line.probability - other)).abs() < 1e-5 && line.margin >= 0.0, "{line:?}");
        assert_eq!(line.label.is_empty(), ("0060.png".."0100.png").contains(&line.image.as_str()), "{line:?}");
    }

    // The same that POST /predict says of the same picture.
    for at in [0_u32, 30, 70, 110] {
        let asked =
            app.post("/predict?model=shape:1").header("content-type", "image/png").body(picture(at % 2 == 0, at));
        let asked = expect(asked.send().await.unwrap(), 200).await;
        let line = all.iter().find(|line| line.image == format!("{at:04}.png")).unwrap();
        let probability = asked["results"][0]["probabilities"][&line.prediction].as_f64().unwrap();
        // In bf16 batches of another size differ in the third digit.
        assert!((probability - line.probability).abs() < 0.02, "{line:?}: {asked}");
    }

    check_selections(&app, path, &all).await;
    check_command(&app, &text);
    check_reading(&app, path, &text).await;
    super::downloads::check(&app).await;
    check_without(&app, path).await;
    app.stop().await;
}

async fn check_selections(app: &TestApp, path: &str, all: &[Line]) {
    let select = async |query: &str| {
        let answer = app.get(&format!("{path}?{query}")).send().await.unwrap();
        lines(expect(answer, 200).await.as_str().unwrap())
    };
    let next = select("rows=unlabelled&limit=7").await;
    let mut expected: Vec<&Line> = all.iter().filter(|line| line.label.is_empty()).collect();
    expected.sort_by(|a, b| a.margin.total_cmp(&b.margin));
    let validate = all.iter().filter(|line| line.used == "validation");
    let mut groups: std::collections::BTreeSet<u32> = validate.filter_map(|line| line.group).collect();
    expected.retain(|line| line.group.is_none_or(|group| groups.insert(group)));
    assert_eq!(next.len(), 7);
    assert!(
        next.iter().zip(expected).all(|(got, wanted)| got.margin == wanted.margin && got.label.is_empty()),
        "{next:?}"
    );
    let doubtful = select("rows=disagreeing").await;
    assert!(doubtful.iter().all(|line| !line.label.is_empty() && line.label != line.prediction), "{doubtful:?}");
    let place = |line: &Line| (line.used == "test", -line.margin);
    assert!(doubtful.is_sorted_by(|a, b| place(a) <= place(b)), "{doubtful:?}");
    let differ = all.iter().filter(|line| !line.label.is_empty() && line.label != line.prediction).count();
    assert_eq!(doubtful.len(), differ);

    for (query, pointer) in [("limit=0", "?limit"), ("rows=some", "?rows"), ("row=all", "?row")] {
        let refused = problem(app.get(&format!("{path}?{query}")).send().await.unwrap(), 422).await;
        assert_eq!(pointers(&refused), [pointer], "{refused}");
    }
    problem(app.get("/models/shape/versions/9/predictions").send().await.unwrap(), 404).await;
}

/// `mixmatch predictions` beside the server.
fn check_command(app: &TestApp, text: &str) {
    let command = |more: &[&str]| {
        let data = app.directory.path().join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mixmatch"));
        command.args(["predictions", "--model", "shape", "--data-dir"]).arg(data).args(more).output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&command(&[]).stdout), text);
    let two = command(&["--rows", "unlabelled", "--limit", "2"]);
    assert_eq!(lines(&String::from_utf8_lossy(&two.stdout)).len(), 2);
    let unknown = command(&["--rows", "some"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("all, unlabelled, disagreeing"), "{unknown:?}");
}

/// Where the predictions of `shape:1` lie.
async fn file_of(app: &TestApp) -> PathBuf {
    let version = app.json("/models/shape/versions/1").await;
    let sha256 = version["predictions_sha256"].as_str().unwrap();
    app.directory.path().join("data/artifacts/sha256").join(&sha256[..2]).join(sha256)
}

/// Nothing is read that is not asked for: all rows come as the file has them, and of the first of them nothing behind.
async fn check_reading(app: &TestApp, path: &str, text: &str) {
    let file = file_of(app).await;
    let damaged = format!("{text}no row\n");
    std::fs::write(&file, &damaged).unwrap();
    let whole = app.get(path).send().await.unwrap();
    assert_eq!(whole.headers()["content-length"], damaged.len().to_string().as_str());
    assert_eq!(whole.text().await.unwrap(), damaged);
    let first = app.get(&format!("{path}?limit=1")).send().await.unwrap();
    let first = expect(first, 200).await.as_str().unwrap().to_owned();
    assert!(first.lines().eq(text.lines().take(2)), "{first}");
    problem(app.get(&format!("{path}?rows=unlabelled&limit=1")).send().await.unwrap(), 500).await;
    std::fs::write(&file, text).unwrap();
}

/// A version of an older build has none, and what nobody names is deleted.
async fn check_without(app: &TestApp, path: &str) {
    let file = file_of(app).await;
    assert!(file.exists());
    let sha256 = file.file_name().unwrap().to_str().unwrap();
    let database = app.directory.path().join("data/mixmatch.db");
    let mut db = sqlx::SqliteConnection::connect(&format!("sqlite://{}", database.display())).await.unwrap();
    sqlx::query("UPDATE model_versions SET predictions_sha256 = NULL").execute(&mut db).await.unwrap();
    let refused = problem(app.get(path).send().await.unwrap(), 404).await;
    assert!(refused["detail"].as_str().unwrap().contains("older build published shape:1"), "{refused}");
    sqlx::query("UPDATE model_versions SET predictions_sha256 = ?").bind(sha256).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    expect(app.delete("/models/shape/aliases/champion").send().await.unwrap(), 204).await;
    expect(app.delete("/models/shape/versions/1").send().await.unwrap(), 204).await;
    assert!(!file.exists(), "the version is gone, and its predictions with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_picked_is_yes_or_no_and_not_for_the_test() {
    let app = TestApp::start().await;
    let drawn = data_set(10, 4);
    let train = drawn.train.replace("artist", "picked").replace("0003.png,stripes,1", "0003.png,stripes,perhaps");
    let test = drawn.test.replace("artist", "Picked").replace(",0\n", ",no\n").replace(",1\n", ",yes\n");
    let drawn = Drawn { train, test, ..drawn };
    let imported = expect(app.post("/datasets").multipart(form("shapes", &drawn)).send().await.unwrap(), 201).await;
    let codes: Vec<(&str, u64)> = imported["report"]["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["code"].as_str().unwrap(), row["row"].as_u64().unwrap()))
        .collect();
    assert_eq!(codes, [("unclear_picked", 5), ("picked_test", 2), ("picked_test", 3)], "{imported:#}");
    assert_eq!(imported["counts"]["picked"], 3, "the image with two opinions is left out");
    app.stop().await;
}
