//! Loads that are waited for, tried once, crowded out or ask the device, and models that have left the memory.

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
    let engine = Engine::start(1, 4, tch::Device::Cuda(99)).unwrap();
    let decoders = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
    *predictor.running.lock().unwrap() = Some(Running { engine, decoders, models: Vec::new(), loading: None });
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
    let network = crate::nn::build("wrn-10-1", crate::nn::Head::Linear, 2, tch::Kind::Float).unwrap();
    let weights = crate::nn::Weights::zeros(network.layout(), tch::Device::Cpu).unwrap();
    let install = |key: &str| {
        let model = Loaded::new(network.as_ref(), &weights, tch::Device::Cpu, 8, 1.0).unwrap();
        predictor.install(key, model, crate::model::example_manifest())
    };
    let begin = |key: &str| predictor.with_running(|running| running.loading = Some(key.to_owned())).unwrap();
    begin("gender:1");
    predictor.unload("gender:1");
    assert!(matches!(install("gender:1"), Err(ServingError::NotLoaded(key)) if key == "gender:1"));
    assert!(predictor.loaded("gender:1").unwrap().is_none());
    begin("gender:1");
    predictor.unload("gender:2");
    install("gender:1").unwrap();
    assert!(predictor.loaded("gender:1").unwrap().is_some());
    predictor.shutdown().await;
}

#[tokio::test]
async fn a_model_that_left_the_memory_is_an_error() {
    let predictor = Predictor::new(PredictorOptions::default());
    assert!(predictor.loaded("gender:1").unwrap().is_none());
    let unloaded = Held::new("gender:1", crate::model::example_manifest());
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(8, 8).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let answer = predictor.predict(&unloaded, vec![png.into_inner()], PredictOptions::default(), ()).await;
    assert!(matches!(answer, Err(ServingError::NotLoaded(_))), "{answer:?}");
    predictor.shutdown().await;
    let answer = predictor.predict(&unloaded, vec![vec![1]], PredictOptions::default(), ()).await;
    assert!(matches!(answer, Err(ServingError::ShuttingDown)));
}
