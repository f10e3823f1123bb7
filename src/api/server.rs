//! The life of a server: open the rooms, listen, and stop in an order that loses nothing.
//!
//! Stopping: readiness off, no more claims → `drain_delay`, in which all else goes on → event streams closed → requests in flight drained →
//! children stopped with a checkpoint and their jobs put back into the queue → models released, for ten seconds at most → store closed.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use super::state::{App, AppState, Lifecycle};
use super::{listen, models, retention, telemetry};
use crate::config::{PredictPrecision, ServeConfig, WorkerConfig};
use crate::data_dir::{DataDir, DataLock};
use crate::dataset::MANIFEST_FILE;
use crate::nn::device::CudaStatus;
use crate::serving::{Predictor, PredictorOptions};
use crate::store::{Store, StoreError};
use crate::worker::{Changes, Device, DeviceChoice, Slot, Supervisor, slots};

/// So many data sets are read at a time where all are looked at.
const PAGE: u32 = 100;

/// So many names are said where many data sets lack their files.
const NAMED: usize = 20;

/// A running server.
pub struct Server {
    app: AppState,
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    _lock: DataLock,
}

/// Takes the data directory's lock, opens the store in it and clears away what a killed process left.
///
/// # Errors
/// When another process holds the directory or the store cannot be opened.
pub async fn open_rooms(data: &DataDir) -> anyhow::Result<(DataLock, Store)> {
    let lock = data.lock()?;
    data.sweep_uploads(&lock);
    let store = Store::open(data).await?;
    store.clear_orphans(data, &lock).await?;
    tell_of_missing(data, &store).await;
    Ok((lock, store))
}

/// Says which data sets lack their files. All else goes on, and jobs on them wait until the files are back.
async fn tell_of_missing(data: &DataDir, store: &Store) {
    match without_files(data, store).await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => tracing::error!(
            count = missing.len(),
            datasets = ?&missing[..missing.len().min(NAMED)],
            directory = %data.datasets().display(),
            "data sets' files are not there or cannot be read; jobs on them wait in the queue until they can be: is a disk not mounted?"
        ),
        // Whoever asks for a data set hears of it too.
        Err(error) => tracing::warn!(%error, "whether the data sets' files are there could not be looked up"),
    }
}

/// The names of the data sets that have a row and no manifest.
async fn without_files(data: &DataDir, store: &Store) -> Result<Vec<String>, StoreError> {
    let (mut missing, mut before) = (Vec::new(), None);
    loop {
        let page = store.datasets(before, PAGE).await?;
        let Some(last) = page.last() else { return Ok(missing) };
        before = Some(last.id);
        for dataset in page {
            let manifest = data.dataset(dataset.id).join(MANIFEST_FILE);
            if !tokio::fs::try_exists(manifest).await.unwrap_or(false) {
                missing.push(dataset.name);
            }
        }
    }
}

/// The slots of this machine.
///
/// # Errors
/// When a GPU is asked for that is not there.
pub fn machine_slots(config: &WorkerConfig, cuda: &CudaStatus) -> anyhow::Result<Vec<Slot>> {
    if config.devices == DeviceChoice::Auto && cuda.is_surprising() {
        tracing::warn!("no GPU is used: {cuda}");
    }
    let gpus = usable_gpus(cuda);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    slots(&config.devices, gpus, u32::try_from(cores)?).map_err(|error| anyhow::anyhow!("--devices: {error}: {cuda}"))
}

impl Server {
    /// Opens everything and listens.
    ///
    /// # Errors
    /// When the configuration is refused, the data directory is in use, or the address is taken.
    pub async fn start(config: ServeConfig, cuda: CudaStatus) -> anyhow::Result<Self> {
        let slots = machine_slots(&config.worker, &cuda)?;
        let predict_device = config.predict.device.settle(usable_gpus(&cuda));
        let predict_device = predict_device.map_err(|error| anyhow::anyhow!("--predict-device: {error}: {cuda}"))?;
        let (lock, store) = open_rooms(&config.data_dir).await?;
        let keys = store.keys().await?;
        config.check(&keys)?;
        let listener = listen::bind(config.listen)
            .map_err(|error| anyhow::anyhow!("cannot listen on {}: {error}", config.listen))?;
        let address = listener.local_addr()?;

        let changes = Changes::default();
        let supervisor =
            Supervisor::start(store.clone(), config.data_dir.clone(), config.worker.clone(), slots, changes).await?;
        let app: AppState = Arc::new(App {
            admission: Admission::new(&config.limits, &config.predict),
            predictor: Predictor::new(predictor_options(&config, predict_device)),
            config,
            store,
            supervisor,
            cuda: cuda.to_string(),
            lifecycle: Lifecycle::default(),
        });
        announce(&app, address, !keys.is_empty());
        // The recorder counts from now on, not from the first look at `/metrics`.
        tokio::spawn(telemetry::upkeep(telemetry::recorder(), Arc::clone(&app)));
        tokio::spawn(retention::look_daily(Arc::clone(&app)));
        // Nobody waits for it: the server is ready for all else, and says of a model that it is being loaded.
        tokio::spawn(models::load_champions(Arc::clone(&app)));

        let stop = CancellationToken::new();
        let (router, stopped) = (super::router(Arc::clone(&app)), stop.clone());
        let limits = app.config.connections;
        let serving = tokio::spawn(listen::serve(listener, router, limits, stopped));
        Ok(Self { app, address, stop, serving, _lock: lock })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The rooms behind it.
    pub fn app(&self) -> &AppState {
        &self.app
    }

    /// Takes readiness away, and goes on for `drain_delay` but for new runs: load balancers are to see it.
    pub async fn wait_to_be_seen(&self) {
        self.app.lifecycle.announce_stop();
        self.app.supervisor.hold();
        let delay = self.app.config.drain_delay;
        if !delay.is_zero() {
            tracing::info!(seconds = delay.as_secs_f64(), "not ready any more; requests are still taken for so long");
            tokio::time::sleep(delay).await;
        }
    }

    /// Stops in order and waits for all of it.
    pub async fn stop(self) {
        self.wait_to_be_seen().await;
        self.finish().await;
    }

    /// The same without [`Server::wait_to_be_seen`].
    pub async fn finish(mut self) {
        tracing::info!("stopping: no new work, open requests are finished, running jobs go back to the queue");
        self.app.lifecycle.stop();
        let supervisor = self.app.supervisor.clone();
        // Claims stop now; the children's grace runs while requests drain.
        let children = tokio::spawn(async move { supervisor.shutdown().await });
        self.stop.cancel();
        if tokio::time::timeout(self.app.config.drain, &mut self.serving).await.is_err() {
            tracing::warn!("some connections did not finish in time and are closed");
            self.serving.abort();
        }
        if let Err(error) = children.await {
            tracing::error!(%error, "stopping the children failed");
        }
        self.app.predictor.shutdown().await;
        self.app.store.close().await;
        tracing::info!("stopped");
    }
}

fn usable_gpus(cuda: &CudaStatus) -> u32 {
    match cuda {
        CudaStatus::Ready(gpus) => u32::try_from(*gpus).unwrap_or(u32::MAX),
        _ => 0,
    }
}

fn predictor_options(config: &ServeConfig, device: Device) -> PredictorOptions {
    PredictorOptions {
        device: device.to_string(),
        max_batch: config.predict.max_batch,
        int8: config.predict.precision == PredictPrecision::Int8,
        models: config.predict.models,
        queue_images: config.predict.queue_images,
        deadline: config.predict.deadline,
        limits: config.limits.image,
        ..PredictorOptions::default()
    }
}

/// `has_keys`: `mixmatch keys` has made some, whether or not they are revoked by now.
fn announce(app: &App, address: SocketAddr, has_keys: bool) {
    let status = app.predictor.status();
    tracing::info!(cuda = %app.cuda, "devices");
    for slot in app.supervisor.slots() {
        tracing::info!(slot = slot.index, device = %slot.device, threads = slot.threads, "slot for jobs");
    }
    tracing::info!(device = %status.device, precision = %status.precision, reason = %status.reason, "predictions");
    tracing::info!(
        data_dir = %app.config.data_dir.root().display(),
        needs_key = has_keys || app.config.api_key.is_some() || !address.ip().is_loopback(),
        "listening on http://{address}, documentation on http://{address}/docs"
    );
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::dataset::{ImportReport, Manifest};
    use crate::store::NewDataset;

    #[tokio::test]
    async fn data_sets_without_their_files_are_found_however_many_there_are() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::new(directory.path());
        let (_lock, store) = open_rooms(&data).await.unwrap();
        let (manifest, report) = (Manifest::default(), ImportReport::default());
        for number in 0..=PAGE {
            let id = Uuid::now_v7();
            let new = NewDataset {
                id,
                name: format!("set-{number}"),
                task: "t".into(),
                manifest: &manifest,
                report: &report,
            };
            store.insert_dataset(new).await.unwrap();
            std::fs::create_dir(data.dataset(id)).unwrap();
            if ![0, 7].contains(&number) {
                std::fs::write(data.dataset(id).join(MANIFEST_FILE), "{}").unwrap();
            }
        }
        assert_eq!(without_files(&data, &store).await.unwrap(), ["set-7", "set-0"]);
    }
}
