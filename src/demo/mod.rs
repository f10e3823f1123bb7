//! `mixmatch demo`: the first client of the service. It draws faces with and without masks, imports them,
//! trains on a few labels with and without the unlabelled rest, compares, and predicts. All of it goes
//! through the HTTP interface, as any other client would.

mod board;
mod client;
pub mod dataset;
mod draw;
mod follow;
mod report;
mod sse;

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use client::{ApiError, Client, Dataset, Job, ModelName, Prediction, PredictionResult, Test};
use dataset::Drawn;
use report::Guess;

/// The data set's name; a second run on the same data directory finds it again.
const DATASET: &str = "drawn-masks";

/// What its labels mean, and so the name of the model.
const TASK: &str = "mask";

/// Images that are drawn for the predictions.
const FRESH: usize = 6;

/// How large the demo is.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Training images to draw.
    pub images: usize,
    /// Test images to draw.
    pub test: usize,
    /// Labels that both runs may use; to MixMatch the other training images are unlabelled.
    pub labelled: u32,
    /// Decides the drawings, and the runs' splits, weights and batches.
    pub seed: u64,
    /// The preset that both runs start from.
    pub preset: String,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self { images: 3000, test: 800, labelled: 40, seed: 1, preset: "demo".to_owned() }
    }
}

/// What the demo reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DemoOutcome {
    /// Test accuracy of the labelled images alone, 0 to 1.
    pub supervised: f64,
    /// Test accuracy of MixMatch, 0 to 1.
    pub mixmatch: f64,
    /// Share of right predictions on freshly drawn images, 0 to 1.
    pub predictions: f64,
}

/// Draws a data set, trains on it twice, predicts. Progress goes to standard error, results to standard
/// output.
///
/// # Errors
/// Whatever a step answered, with the service's own words; or that the results cannot be written.
pub async fn run(base: &str, options: DemoOptions) -> anyhow::Result<DemoOutcome> {
    let client = Client::new(base)?;
    let begun = Instant::now();
    import(&client, &options).await?;
    let (supervised, mixmatch) = train(&client, &options).await?;
    let (supervised_test, mixmatch_test) = (tested(&supervised)?, tested(&mixmatch)?);
    print_line(format_args!("\n{}", report::table(&[&supervised, &mixmatch], options.labelled)))?;
    print_line(report::verdict(supervised_test, mixmatch_test, options.labelled))?;
    print_line("Validation images chose each run's best epoch; the test images were looked at once, afterwards.\n")?;

    let best = if validation(&mixmatch) >= validation(&supervised) { &mixmatch } else { &supervised };
    let model = best.model.as_ref().context("the finished job names no model")?;
    tell(format_args!("Predicting {FRESH} new drawings with {model} ({}) …", best.algorithm));
    let guesses = predict(&client, model, &options).await?;
    print_line(report::guesses(&guesses))?;

    let base = base.trim_end_matches('/');
    tell(format_args!("All done in {}.", seconds(begun.elapsed())));
    print_line(format_args!(
        "dashboard   {base}/\n\
         API         {base}/docs\n\
         your photo  curl --data-binary @photo.jpg -H 'content-type: image/jpeg' '{base}/predict?model={model}'"
    ))?;
    Ok(DemoOutcome {
        supervised: supervised_test.accuracy,
        mixmatch: mixmatch_test.accuracy,
        predictions: report::accuracy(&guesses),
    })
}

/// Tells how far it is. Whoever read that may have gone: what is under way goes on all the same.
fn tell(words: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}

/// Writes a line of the results, which `println!` would panic over where nobody reads them any more.
///
/// # Errors
/// They go to a disk that is full, or to nobody any more.
fn print_line(line: impl Display) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("the result cannot be written to standard output")
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn tested(job: &Job) -> anyhow::Result<&Test> {
    job.test.as_ref().with_context(|| format!("the {} job {} was never tested", job.algorithm, job.id))
}

fn validation(job: &Job) -> f64 {
    job.best.as_ref().map_or(0.0, |best| best.validation_accuracy)
}

/// Sees to it that the data set exists.
async fn import(client: &Client, options: &DemoOptions) -> anyhow::Result<()> {
    let path = format!("/datasets/{DATASET}");
    match client.get::<Dataset>(&path).await {
        Ok(found) => return reuse(&found),
        Err(error) if status(&error) == Some(404) => {}
        Err(error) if status(&error) == Some(401) => {
            anyhow::bail!("this data directory has keys, and the demo knows none of them: use another --data-dir")
        }
        Err(error) => return Err(error),
    }
    let begun = Instant::now();
    tell(format_args!("Drawing {} training and {} test faces, half of them masked …", options.images, options.test));
    let (images, test, seed) = (options.images, options.test, options.seed);
    let upload = tokio::task::spawn_blocking(move || {
        let train = dataset::draw(images, seed, "train")?;
        dataset::pack(&train, &dataset::draw(test, other_seed(seed, 1), "test")?)
    })
    .await
    .context("the drawing stopped")??;
    let megabytes = upload.images.len() as f64 / 1e6;
    tell(format_args!("  drawn in {}, a ZIP of {megabytes:.1} MB", seconds(begun.elapsed())));

    let begun = Instant::now();
    tell(format_args!("Importing it as {DATASET:?} …"));
    let file = |bytes: Vec<u8>, name: &'static str, media: &str| Part::bytes(bytes).file_name(name).mime_str(media);
    let form = Form::new()
        .text("name", DATASET)
        .text("task", TASK)
        .part("images", file(upload.images, "images.zip", "application/zip")?)
        .part("train", file(upload.train, "train.csv", "text/csv")?)
        .part("test", file(upload.test, "test.csv", "text/csv")?);
    match client.post_form::<Dataset>("/datasets", form).await {
        Ok(made) => {
            tell(format_args!("  imported in {}: {}", seconds(begun.elapsed()), describe(&made)));
            Ok(())
        }
        // Somebody was faster.
        Err(error) if status(&error) == Some(409) => reuse(&client.get(&path).await?),
        Err(error) => Err(error),
    }
}

fn reuse(found: &Dataset) -> anyhow::Result<()> {
    tell(format_args!("The data set {:?} is here already and is used again: {}", found.name, describe(found)));
    Ok(())
}

fn describe(dataset: &Dataset) -> String {
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(class, count)| format!("{count} {class}")).collect::<Vec<_>>().join(" + ")
    };
    let mut text = format!("{} to train, {} to test", list(&dataset.counts.train), list(&dataset.counts.test));
    if dataset.report.rejected_rows > 0 {
        text.push_str(&format!(", {} rows left out", dataset.report.rejected_rows));
    }
    if !dataset.report.warnings.is_empty() {
        text.push_str(&format!(", {} warnings in its report", dataset.report.warnings.len()));
    }
    text
}

fn status(error: &anyhow::Error) -> Option<u16> {
    error.downcast_ref::<ApiError>().map(|error| error.status)
}

/// A seed whose drawings have nothing in common with those of `seed`.
fn other_seed(seed: u64, purpose: u64) -> u64 {
    seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ purpose.wrapping_mul(0xD1B5_4A32_D192_ED03)
}

/// Queues both runs and follows them to their ends, side by side where the service has the slots.
async fn train(client: &Client, options: &DemoOptions) -> anyhow::Result<(Job, Job)> {
    let begun = Instant::now();
    let mixmatch = queue(client, options).await?;
    let supervised = mixmatch.baseline.as_ref().context("the queued job names no baseline")?;
    let supervised: Job = client.get(&format!("/jobs/{}", supervised.id)).await?;
    if goes_on(&[&supervised, &mixmatch]) {
        tell("Training goes on where an earlier demo was interrupted …");
    } else {
        tell(format_args!("Training twice with the same {} labels …", options.labelled));
    }
    let board = board::Board::default();
    let rows = (board.row("supervised"), board.row("mixmatch"));
    let jobs = tokio::try_join!(
        follow::follow(client, &supervised.id, rows.0),
        follow::follow(client, &mixmatch.id, rows.1),
    )?;
    tell(format_args!("  both trained in {}", seconds(begun.elapsed())));
    Ok(jobs)
}

/// Whether any of the runs has come somewhere already: the first may be done before the second begins.
fn goes_on(jobs: &[&Job]) -> bool {
    jobs.iter().any(|job| job.step > 0 || job.is_final())
}

/// Queues the runs, or finds those that an interrupted demo has queued: each demo of a day has a key of its own, and the first whose
/// runs have not ended is this one's.
async fn queue(client: &Client, options: &DemoOptions) -> anyhow::Result<Job> {
    let body = json!({
        "dataset": DATASET,
        "algorithm": "mixmatch",
        "preset": options.preset,
        "labelled": options.labelled,
        "seed": options.seed,
        "baseline": true,
    });
    let name = format!("mixmatch-demo-{}-{}-{}", options.preset, options.labelled, options.seed);
    for number in 0..u32::MAX {
        let job: Job = client.post_once("/jobs", &format!("{name}-{number}"), &body).await?;
        if !job.is_final() {
            return Ok(job);
        }
    }
    anyhow::bail!("there were too many demos today")
}

/// Draws images that were never imported and asks the model about them, in each of the three ways.
async fn predict(client: &Client, model: &ModelName, options: &DemoOptions) -> anyhow::Result<Vec<Guess>> {
    let seed = other_seed(options.seed, 2);
    let drawn = tokio::task::spawn_blocking(move || dataset::draw(FRESH, seed, "fresh"))
        .await
        .context("the drawing stopped")??;
    let path = format!("/predict?model={model}");
    let third = drawn.len().div_ceil(3);
    let mut guesses = Vec::new();
    for (image, way) in drawn.chunks(third).zip(["raw body", "multipart", "JSON, base64"]) {
        let results = match way {
            "raw body" => {
                let mut results = Vec::new();
                for one in image {
                    let answer: Prediction = client.post_bytes(&path, "image/jpeg", one.bytes.clone()).await?;
                    results.extend(answer.results);
                }
                results
            }
            "multipart" => client.post_form::<Prediction>(&path, form(image)?).await?.results,
            _ => client.post_json::<Prediction>(&path, &encoded(image)).await?.results,
        };
        anyhow::ensure!(results.len() == image.len(), "{} images sent, {} results came", image.len(), results.len());
        guesses.extend(image.iter().zip(results).map(|(one, result)| guess(way, one, result)));
    }
    Ok(guesses)
}

fn form(images: &[Drawn]) -> anyhow::Result<Form> {
    images.iter().try_fold(Form::new(), |form, image| {
        let part = Part::bytes(image.bytes.clone()).file_name(image.name.clone()).mime_str("image/jpeg")?;
        Ok(form.part("image", part))
    })
}

fn encoded(images: &[Drawn]) -> Value {
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let images: Vec<Value> =
        images.iter().map(|image| json!({ "id": image.name, "base64": encode(&image.bytes) })).collect();
    json!({ "images": images })
}

fn guess(form: &'static str, drawn: &Drawn, result: PredictionResult) -> Guess {
    let predicted = match (result.label, result.probability, result.problem) {
        (Some(label), Some(probability), None) => Ok((label, probability)),
        (.., Some(problem)) => Err(problem["detail"].as_str().unwrap_or("refused").to_owned()),
        _ => Err("no answer".to_owned()),
    };
    Guess { form, drawn: drawn.label, predicted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_goes_on_where_either_run_has_begun() {
        let job = |state: &str, step| Job { state: state.to_owned(), step, ..Job::default() };
        let fresh = job("queued", 0);
        // Claimed between the answer and this look at it.
        assert!(!goes_on(&[&job("running", 0), &fresh]));
        assert!(goes_on(&[&job("queued", 30), &fresh]) && goes_on(&[&fresh, &job("running", 30)]));
        assert!(goes_on(&[&job("succeeded", 600), &fresh]));
    }

    #[tokio::test]
    async fn a_data_directory_with_keys_says_what_to_do() {
        use axum::{Router, http::StatusCode, routing::get};
        let locked = Router::new().route("/datasets/{name}", get(|| async { StatusCode::UNAUTHORIZED }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, locked).await });
        let refused = run(&base, DemoOptions::default()).await.unwrap_err().to_string();
        assert!(refused.contains("has keys") && refused.contains("--data-dir"), "{refused}");
    }

    #[tokio::test]
    async fn runs_of_an_interrupted_demo_are_found_again_and_those_that_ended_are_not() {
        use axum::{Json, Router, http::HeaderMap, routing::post};
        let jobs = |headers: HeaderMap| async move {
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            let state = match key.as_str() {
                "mixmatch-demo-demo-40-1-0" => "succeeded",
                "mixmatch-demo-demo-40-1-1" => "failed",
                "mixmatch-demo-demo-40-1-2" => "running",
                other => panic!("{other}"),
            };
            Json(json!({
                "id": key, "algorithm": "mixmatch", "state": state, "epoch": 1, "epochs": 1, "step": 1, "steps": 1,
                "baseline": {"id": "b"},
            }))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/jobs", post(jobs))).await });
        assert_eq!(queue(&client, &DemoOptions::default()).await.unwrap().id, "mixmatch-demo-demo-40-1-2");
    }
}
