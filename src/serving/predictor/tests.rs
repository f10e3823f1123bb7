//! Loads that are waited for, tried once, side by side, crowded out or ask the device, models that have left the memory, more
//! callers than can be answered, and what is left of a deadline.

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use super::super::loaded::{Loaded, ModelFiles, Slow};
use super::super::result::{PredictOptions, Prediction};
use super::answering::least;
use super::loading::{Opened, Wish};
use super::*;

#[tokio::test]
async fn a_load_whose_caller_has_gone_is_waited_for_at_the_end() {
    let predictor = Predictor::new(PredictorOptions::default());
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    predictor
        .spawn_loader(move || {
            std::thread::sleep(Duration::from_millis(300));
            end.store(true, Ordering::Release);
        })
        .unwrap();
    predictor.shutdown().await;
    assert!(ended.load(Ordering::Acquire), "the process would have exited with a thread inside libtorch");
    assert!(matches!(predictor.spawn_loader(|| {}), Err(ServingError::ShuttingDown)));
}

#[tokio::test]
async fn what_cannot_be_loaded_is_tried_once_for_all_who_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let missing = || ModelFiles { weights: directory.path().join("w"), manifest: directory.path().join("m") };
    let predictor = Predictor::new(PredictorOptions::default());
    let first = predictor.load("gender:1", missing()).await.unwrap_err().to_string();
    // Meanwhile there is something else wrong with it; who comes within seconds is told of the first attempt.
    std::fs::write(directory.path().join("m"), "{}").unwrap();
    assert_eq!(predictor.load("gender:1", missing()).await.unwrap_err().to_string(), first);
    assert_ne!(predictor.load("gender:2", missing()).await.unwrap_err().to_string(), first, "another model is tried");
    predictor.shutdown().await;
}

#[tokio::test]
async fn a_load_that_fails_has_the_device_asked_whether_it_computes() {
    let predictor = Predictor::new(PredictorOptions::default());
    let engine = Engine::start(1, 4, tch::Device::Cuda(99), Arc::default()).unwrap();
    let decoders = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    *predictor.running() = Some(Running { engine, decoders, models: Vec::new(), loading: Vec::new() });
    assert_eq!(predictor.status().trouble, None);
    let nowhere = ModelFiles { weights: "/nowhere/w".into(), manifest: "/nowhere/m".into() };
    assert!(predictor.load("gender:1", nowhere).await.is_err());
    let told = async {
        while predictor.status().trouble.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("nobody asked the device");
    predictor.shutdown().await;
}

#[tokio::test]
async fn models_that_answer_somebody_crowd_out_new_ones() {
    let predictor = Predictor::new(PredictorOptions { models: 1, ..PredictorOptions::default() });
    let held = ["a:1", "b:1"].map(|key| Held::new(key, crate::model::example_manifest()));
    predictor.with_running(|running| running.models.extend(held.iter().cloned())).unwrap();
    let nowhere = || ModelFiles { weights: "/nowhere/w".into(), manifest: "/nowhere/m".into() };
    let refused = predictor.load("c:1", nowhere()).await;
    let Err(refused @ ServingError::Crowded { models: 2 }) = refused else { panic!("{refused:?}") };
    assert!(refused.to_string().contains("--models-in-memory"), "{refused}");
    drop(held);
    let refused = predictor.load("c:1", nowhere()).await;
    assert!(matches!(refused, Err(ServingError::ModelFile { .. })), "there is room, but no such file: {refused:?}");
    predictor.shutdown().await;
}

#[tokio::test]
async fn a_model_that_is_unloaded_while_it_loads_stays_out() {
    let predictor = Predictor::new(PredictorOptions::default());
    let install = |key: &str| predictor.install(key, slow(Duration::ZERO), Wish::Asked);
    let begun = predictor.begin("gender:1").unwrap();
    predictor.unload("gender:1");
    assert!(matches!(install("gender:1"), Err(ServingError::NotLoaded(key)) if key == "gender:1"));
    assert!(predictor.loaded("gender:1").unwrap().is_none());
    drop(begun);
    let _begun = predictor.begin("gender:1").unwrap();
    predictor.unload("gender:2");
    install("gender:1").unwrap();
    assert!(predictor.loaded("gender:1").unwrap().is_some());
    predictor.shutdown().await;
}

/// A model that takes so long for each image.
fn slow(each: Duration) -> Opened {
    let manifest = crate::model::example_manifest();
    let model = Loaded::stand_in(Slow::boxed(each).0, manifest.preprocess.size);
    Opened { model, manifest, seconds: Some(each.as_secs_f64()) }
}

fn install(predictor: &Predictor, key: &str, opened: Opened) -> Held {
    let _begun = predictor.begin(key).unwrap();
    predictor.install(key, opened, Wish::Asked).unwrap()
}

/// A file that whoever reads it waits for, until somebody writes to it.
fn endless(directory: &std::path::Path) -> ModelFiles {
    let file = directory.join("endless");
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    ModelFiles { weights: file.clone(), manifest: file }
}

#[tokio::test]
async fn a_model_that_takes_long_to_load_keeps_no_other_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let files = endless(directory.path());
    let predictor = Arc::new(Predictor::new(PredictorOptions::default()));
    let (beside, there) = (Arc::clone(&predictor), files.clone());
    let long = tokio::spawn(async move { beside.load("long:1", there).await });
    let is_loading = || predictor.running().as_ref().is_some_and(|running| running.loading == ["long:1"]);
    while !is_loading() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let nowhere = ModelFiles { weights: "/nowhere/w".into(), manifest: "/nowhere/m".into() };
    let other = tokio::time::timeout(Duration::from_secs(60), predictor.load("short:1", nowhere)).await;
    assert!(matches!(other.expect("it waits"), Err(ServingError::ModelFile { .. })));
    assert!(is_loading() && !long.is_finished());
    // Nobody writes more than this: it is not what it is called.
    let write = move || drop(std::fs::OpenOptions::new().write(true).open(files.manifest).unwrap());
    tokio::task::spawn_blocking(write).await.unwrap();
    assert!(matches!(long.await.unwrap(), Err(ServingError::ModelFile { .. })));
    predictor.shutdown().await;
}

#[tokio::test]
async fn a_model_that_nobody_has_asked_for_puts_no_other_out() {
    let predictor = Predictor::new(PredictorOptions { models: 2, ..PredictorOptions::default() });
    let nowhere = || ModelFiles { weights: "/nowhere/w".into(), manifest: "/nowhere/m".into() };
    drop(install(&predictor, "used:1", slow(Duration::ZERO)));
    assert!(predictor.preload("seen:1", nowhere()).await.is_err(), "there is room, but no such file");
    {
        let _begun = predictor.begin("seen:1").unwrap();
        predictor.install("seen:1", slow(Duration::ZERO), Wish::Foreseen).unwrap();
    }
    assert!(!predictor.preload("seen:2", nowhere()).await.unwrap());
    drop(install(&predictor, "used:2", slow(Duration::ZERO)));
    assert_eq!(predictor.status().loaded, ["used:1", "used:2"]);
    predictor.shutdown().await;
}

#[tokio::test]
async fn the_model_that_was_not_used_for_longest_makes_room() {
    let predictor = Predictor::new(PredictorOptions { models: 2, ..PredictorOptions::default() });
    for key in ["old:1", "new:1"] {
        drop(install(&predictor, key, slow(Duration::ZERO)));
    }
    assert!(predictor.loaded("old:1").unwrap().is_some(), "it is asked for");
    drop(install(&predictor, "third:1", slow(Duration::ZERO)));
    assert_eq!(predictor.status().loaded, ["old:1", "third:1"]);
    predictor.shutdown().await;
}

#[tokio::test]
async fn loads_are_given_up_when_the_server_stops() {
    let predictor = Predictor::new(PredictorOptions::default());
    let closing = Arc::clone(&predictor.closing);
    let opened = slow(Duration::from_millis(10));
    predictor
        .spawn_loader(move || {
            let warmed =
                (0..10_000).try_for_each(|_| opened.model.warm(1, || !closing.load(Ordering::Acquire)).map(drop));
            assert!(matches!(warmed, Err(ServingError::ShuttingDown)));
        })
        .unwrap();
    let began = Instant::now();
    predictor.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_batch_that_never_ends_does_not_keep_the_server_from_its_end() {
    let options = PredictorOptions { ending: Duration::from_millis(100), ..PredictorOptions::default() };
    let predictor = Arc::new(Predictor::new(options));
    let model = install(&predictor, "slow:1", slow(Duration::from_secs(20)));
    let beside = Arc::clone(&predictor);
    let asked = tokio::spawn(async move { classify(&beside, &model).await });
    while queued(&predictor) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let at_work = || predictor.running().as_ref().and_then(|running| running.engine.health.trouble(Duration::ZERO));
    while at_work().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    predictor.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    asked.abort();
}

/// Images that wait or are worked on.
fn queued(predictor: &Predictor) -> usize {
    predictor.running().as_ref().map_or(0, |running| running.engine.queue.images())
}

/// A black picture.
fn black() -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(8, 8).write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

/// A black picture, classified.
async fn classify(predictor: &Predictor, model: &Held) -> Result<Prediction, ServingError> {
    predictor.predict(model, vec![black()], PredictOptions::default(), ()).await
}

/// How often `callers` who ask all the time are answered.
async fn answered_in(time: Duration, callers: usize, predictor: &Arc<Predictor>, model: &Held) -> u128 {
    let end = Instant::now() + time;
    let caller = || {
        let (predictor, model) = (Arc::clone(predictor), model.clone());
        tokio::spawn(async move {
            let mut answered = 0;
            while Instant::now() < end {
                match classify(&predictor, &model).await {
                    Ok(_) => answered += 1,
                    Err(ServingError::Overloaded { .. } | ServingError::Deadline { .. }) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            answered
        })
    };
    let callers: Vec<_> = (0..callers).map(|_| caller()).collect();
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.unwrap();
    }
    answered
}

#[tokio::test]
async fn more_callers_than_can_be_answered_leave_nearly_all_of_the_time_to_those_who_can() {
    let (each, deadline, callers) = (Duration::from_millis(20), Duration::from_secs(1), 100);
    let options = PredictorOptions { max_batch: 16, deadline, ..PredictorOptions::default() };
    let predictor = Arc::new(Predictor::new(options));
    let model = install(&predictor, "slow:1", slow(each));
    // Who comes to an idle server is answered, as many at once as can be.
    let burst = futures::future::join_all((0..20).map(|_| classify(&predictor, &model))).await;
    assert!(burst.iter().all(Result::is_ok), "{burst:?}");

    let answered = answered_in(Duration::from_secs(4), callers, &predictor, &model).await;
    let capacity = 4000 / each.as_millis();
    assert!(10 * answered >= 7 * capacity, "{answered} of {capacity}");
    assert_eq!(queued(&predictor), 0);
    predictor.shutdown().await;
}

/// Decodes after so long.
fn slowly(bytes: &[u8], limits: &DecodeLimits, preprocess: &Preprocess) -> Result<Prepared, ImagingError> {
    std::thread::sleep(DECODING);
    imaging::prepare(bytes, limits, preprocess)
}

const DECODING: Duration = Duration::from_millis(100);

#[tokio::test]
async fn images_that_take_long_to_decode_leave_nearly_all_of_the_time_to_who_can_be_answered() {
    let (threads, callers) = (2, 100);
    let options = PredictorOptions { threads, deadline: Duration::from_secs(1), ..PredictorOptions::default() };
    let predictor = Arc::new(Predictor { prepare_image: slowly, ..Predictor::new(options) });
    let model = install(&predictor, "quick:1", slow(Duration::ZERO));
    let burst = futures::future::join_all((0..8).map(|_| classify(&predictor, &model))).await;
    assert!(burst.iter().all(Result::is_ok), "{burst:?}");
    let answered = answered_in(Duration::from_secs(4), callers, &predictor, &model).await;
    let capacity = threads as u128 * 4000 / DECODING.as_millis();
    assert!(10 * answered >= 7 * capacity, "{answered} of {capacity}");
    assert_eq!(queued(&predictor), 0);
    predictor.shutdown().await;
}

#[tokio::test]
async fn what_would_be_decoded_too_late_is_not_begun() {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let deadline = Duration::from_secs(10);
    let options = PredictorOptions { threads: 1, deadline, ..PredictorOptions::default() };
    let prepare_image: Prepare = |bytes, limits, preprocess| {
        BEGUN.fetch_add(1, Ordering::Relaxed);
        slowly(bytes, limits, preprocess)
    };
    let predictor = Predictor { prepare_image, ..Predictor::new(options) };
    let model = install(&predictor, "quick:1", slow(Duration::ZERO));
    assert!(classify(&predictor, &model).await.is_ok());
    let began = Instant::now().checked_sub(deadline - DECODING / 2).unwrap();
    let late = predictor.predict_since(began, &model, vec![black()], PredictOptions::default(), ()).await;
    assert!(matches!(late, Err(ServingError::Deadline { .. })), "{late:?}");
    assert_eq!(BEGUN.load(Ordering::Relaxed), 1);
    // Images may have become smaller: whoever has waited for nothing yet is never sent away for what those before him took.
    assert_eq!(least(Some(60.0), 4, deadline), deadline / 2);
    assert_eq!(least(Some(0.25), 4, deadline), Duration::from_secs(1));
    assert!(least(None, 4, deadline).is_zero());
    predictor.shutdown().await;
}

#[tokio::test]
async fn who_has_waited_for_the_model_has_the_rest_of_the_deadline_for_the_answer() {
    let deadline = Duration::from_secs(10);
    let predictor = Predictor::new(PredictorOptions { deadline, ..PredictorOptions::default() });
    let model = install(&predictor, "slow:1", slow(Duration::from_secs(1)));
    let began = Instant::now().checked_sub(deadline * 97 / 100).unwrap();
    let late = predictor.predict_since(began, &model, vec![black()], PredictOptions::default(), ()).await;
    assert!(matches!(late, Err(ServingError::Deadline { .. })), "{late:?}");
    assert!(classify(&predictor, &model).await.is_ok(), "a second of ten is enough");
    predictor.shutdown().await;
}

#[tokio::test]
async fn whoever_goes_leaves_the_queue_though_the_batch_goes_on() {
    let predictor = Predictor::new(PredictorOptions { queue_images: 1, ..PredictorOptions::default() });
    let model = install(&predictor, "slow:1", slow(Duration::from_millis(500)));
    let gone = tokio::time::timeout(Duration::from_millis(100), classify(&predictor, &model)).await;
    assert!(gone.is_err());
    assert_eq!(queued(&predictor), 0);
    assert!(classify(&predictor, &model).await.is_ok());
    predictor.shutdown().await;
}

#[tokio::test]
async fn a_model_that_left_the_memory_is_an_error() {
    let predictor = Predictor::new(PredictorOptions::default());
    assert!(predictor.loaded("gender:1").unwrap().is_none());
    let unloaded = Held::new("gender:1", crate::model::example_manifest());
    let answer = predictor.predict(&unloaded, vec![black()], PredictOptions::default(), ()).await;
    assert!(matches!(answer, Err(ServingError::NotLoaded(_))), "{answer:?}");
    predictor.shutdown().await;
    let answer = predictor.predict(&unloaded, vec![vec![1]], PredictOptions::default(), ()).await;
    assert!(matches!(answer, Err(ServingError::ShuttingDown)));
}
