//! The state machine against a model of it: whatever people, children and servers do, and in whatever order, the store
//! and a few lines of Rust agree on where every job stands.

use proptest::prelude::*;
use uuid::Uuid;

use super::{Fixture, LEASE, epoch};
use crate::store::StoreError;
use crate::store::jobs::{JobState, Wish};
use crate::train::event::Event;

/// Something that happens; a number picks the job, or the attempt, among those that there are.
#[derive(Clone, Debug)]
enum Act {
    Queue,
    Claim,
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    Retry(usize),
    Delete(usize),
    Heartbeat(usize),
    Start(usize),
    /// A child finds no checkpoint.
    Anew(usize),
    Epoch(usize),
    Checkpoint(usize),
    Release(usize),
    Succeed(usize),
    Fail(usize),
    Crash(usize),
    NewServer,
    /// A worker that was thought dead writes.
    Ghost(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let job = || 0..8usize;
    let act = prop_oneof![
        2 => Just(Act::Queue),
        6 => Just(Act::Claim),
        1 => job().prop_map(Act::Cancel),
        3 => job().prop_map(Act::Pause),
        3 => job().prop_map(Act::Resume),
        2 => job().prop_map(Act::Retry),
        1 => job().prop_map(Act::Delete),
        2 => job().prop_map(Act::Heartbeat),
        3 => job().prop_map(Act::Start),
        1 => job().prop_map(Act::Anew),
        4 => job().prop_map(Act::Epoch),
        3 => job().prop_map(Act::Checkpoint),
        2 => job().prop_map(Act::Release),
        1 => job().prop_map(Act::Succeed),
        1 => job().prop_map(Act::Fail),
        3 => job().prop_map(Act::Crash),
        1 => Just(Act::NewServer),
        2 => job().prop_map(Act::Ghost),
    ];
    prop::collection::vec(act, 1..60)
}

/// What a job should be.
#[derive(Clone, Debug)]
struct Model {
    id: Uuid,
    state: JobState,
    attempt: u32,
    cancel: bool,
    pause: bool,
    /// Epochs told.
    epochs: u32,
    /// Step of the newest checkpoint (ten to an epoch), and what it was at the last crash, and at the last death of the server.
    checkpoint: Option<u64>,
    crashed_at: Option<u64>,
    died_at: Option<u64>,
    deaths: u32,
    /// The last attempt that began, and the last one that lost a checkpoint.
    began: Option<u32>,
    lost: Option<u32>,
}

impl Model {
    fn new(id: Uuid) -> Self {
        Self {
            id,
            state: JobState::Queued,
            attempt: 0,
            cancel: false,
            pause: false,
            epochs: 0,
            checkpoint: None,
            crashed_at: None,
            died_at: None,
            deaths: 0,
            began: None,
            lost: None,
        }
    }

    fn running(&self) -> bool {
        self.state == JobState::Running
    }

    fn moved(&self, before: Option<u64>) -> bool {
        self.checkpoint.is_some_and(|step| before.is_none_or(|before| step > before))
    }

    /// The attempt ended without success or failure of its own.
    fn stopped(&self) -> JobState {
        match (self.cancel, self.pause) {
            (true, _) => JobState::Canceled,
            (false, true) => JobState::Paused,
            (false, false) => JobState::Queued,
        }
    }

    /// Gives whether it is tried again.
    fn dies(&mut self, gives_up: bool) -> bool {
        self.state = match self.stopped() {
            JobState::Queued if gives_up => JobState::Failed,
            stopped => stopped,
        };
        !self.state.is_final()
    }

    fn begins_anew(&mut self) {
        if self.checkpoint.is_some() {
            let again = self.lost.is_some() && self.lost == self.began;
            if !again {
                (self.crashed_at, self.died_at) = (None, None);
            }
            self.lost = Some(self.attempt);
        }
        (self.checkpoint, self.epochs, self.began) = (None, 0, Some(self.attempt));
    }
}

/// The store with the model beside it.
struct Walk {
    f: Fixture,
    boot: Uuid,
    jobs: Vec<Model>,
}

impl Walk {
    /// Does it to both, and compares what is said.
    async fn act(&mut self, act: Act) {
        match act {
            Act::Queue => {
                let id = self.f.queue().await;
                self.jobs.push(Model::new(id));
            }
            Act::Claim => {
                let claimed = self.f.claim(self.boot).await.map(|job| (job.id, job.attempt));
                let first = self.jobs.iter_mut().find(|job| job.state == JobState::Queued);
                let expected = first.map(|job| {
                    (job.state, job.attempt) = (JobState::Running, job.attempt + 1);
                    (job.id, job.attempt)
                });
                assert_eq!(claimed, expected, "the oldest that waits is claimed");
            }
            Act::NewServer => {
                self.boot = Uuid::now_v7();
                let left = self.jobs.iter_mut().filter(|job| job.running());
                let count = left.map(|job| {
                    job.deaths = if job.moved(job.died_at) { 1 } else { job.deaths + 1 };
                    if job.dies(job.deaths >= 3) {
                        job.died_at = job.checkpoint;
                    }
                });
                let count = count.count() as u64;
                assert_eq!(self.f.store.reclaim(self.boot).await.unwrap(), count);
            }
            Act::Delete(at) => {
                let Some(at) = self.at(at) else { return };
                let deleted = self.f.store.delete_job(self.jobs[at].id).await;
                assert_eq!(deleted.is_ok(), self.jobs[at].state.is_final(), "{deleted:?}");
                if deleted.is_ok() {
                    self.jobs.remove(at);
                }
            }
            Act::Ghost(at) => self.ghost(at).await,
            Act::Cancel(at) | Act::Pause(at) | Act::Resume(at) | Act::Retry(at) => self.wish(&act, at).await,
            Act::Heartbeat(at)
            | Act::Start(at)
            | Act::Anew(at)
            | Act::Epoch(at)
            | Act::Checkpoint(at)
            | Act::Release(at)
            | Act::Succeed(at)
            | Act::Fail(at)
            | Act::Crash(at) => self.work(&act, at).await,
        }
    }

    fn at(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.jobs.len())
    }

    async fn wish(&mut self, act: &Act, at: usize) {
        let Some(at) = self.at(at) else { return };
        let (store, job) = (&self.f.store, &mut self.jobs[at]);
        let state = job.state;
        let (said, allowed) = match act {
            Act::Cancel(_) => {
                match state {
                    JobState::Queued | JobState::Paused => (job.state, job.cancel) = (JobState::Canceled, true),
                    JobState::Running => job.cancel = true,
                    _ => {}
                }
                (store.cancel_job(job.id).await, !matches!(state, JobState::Succeeded | JobState::Failed))
            }
            Act::Pause(_) => {
                match state {
                    JobState::Queued => (job.state, job.pause) = (JobState::Paused, true),
                    JobState::Running => job.pause = true,
                    _ => {}
                }
                (store.pause_job(job.id).await, !state.is_final())
            }
            Act::Resume(_) => {
                if !state.is_final() {
                    job.pause = false;
                }
                if state == JobState::Paused {
                    job.state = JobState::Queued;
                }
                (store.resume_job(job.id).await, !state.is_final())
            }
            _ => {
                if matches!(state, JobState::Failed | JobState::Canceled) {
                    (job.state, job.cancel, job.pause) = (JobState::Queued, false, false);
                    (job.crashed_at, job.died_at, job.deaths) = (None, None, 0);
                }
                let allowed = match state {
                    JobState::Succeeded | JobState::Paused => false,
                    JobState::Running => !job.cancel,
                    JobState::Queued | JobState::Failed | JobState::Canceled => true,
                };
                (store.retry_job(job.id).await, allowed)
            }
        };
        assert_eq!(said.is_ok(), allowed, "{act:?} when {}: {said:?}", state.as_str());
    }

    /// What the worker of a running job does.
    async fn work(&mut self, act: &Act, at: usize) {
        let running: Vec<usize> = (0..self.jobs.len()).filter(|&at| self.jobs[at].running()).collect();
        let Some(at) = at.checked_rem(running.len()).map(|at| running[at]) else { return };
        let (store, job) = (&self.f.store, &mut self.jobs[at]);
        let (id, attempt) = (job.id, job.attempt);
        match act {
            Act::Heartbeat(_) => {
                let wish = if job.cancel { Some(Wish::Cancel) } else { job.pause.then_some(Wish::Pause) };
                assert_eq!(store.heartbeat(id, attempt, LEASE).await.unwrap(), wish);
            }
            Act::Start(_) => {
                // From the checkpoint, whose epochs it tells again.
                let done = job.checkpoint.map_or(0, |step| (step / 10) as u32);
                let restored = job.checkpoint.is_some();
                let mut events = vec![Event::Start { step: u64::from(done) * 10, epoch: done, restored }];
                events.extend((1..=done).map(|number| epoch(number, 0.5, 0.5)));
                store.record(id, attempt, &events).await.unwrap();
                (job.epochs, job.began) = (done, Some(attempt));
            }
            Act::Anew(_) => {
                store.record(id, attempt, &[Event::Start { step: 0, epoch: 0, restored: false }]).await.unwrap();
                job.begins_anew();
            }
            Act::Epoch(_) => {
                job.epochs += 1;
                store.record(id, attempt, &[epoch(job.epochs, 0.5, 0.5)]).await.unwrap();
            }
            Act::Checkpoint(_) if job.epochs > 0 => {
                job.checkpoint = Some(u64::from(job.epochs) * 10);
                store.record(id, attempt, &[Event::Checkpoint { step: u64::from(job.epochs) * 10 }]).await.unwrap();
            }
            Act::Checkpoint(_) => {}
            Act::Release(_) => {
                job.state = job.stopped();
                assert_eq!(store.release(id, attempt).await.unwrap(), job.state);
            }
            Act::Succeed(_) => {
                let model = self.f.model(&format!("{id}-{attempt}"));
                store.finish_succeeded(id, attempt, &model).await.unwrap();
                (job.state, job.checkpoint) = (JobState::Succeeded, None);
            }
            Act::Fail(_) => {
                store.finish_failed(id, attempt, "x", "y").await.unwrap();
                job.state = JobState::Failed;
            }
            _ => {
                let moved = job.moved(job.crashed_at);
                if job.dies(!moved) {
                    (job.crashed_at, job.deaths) = (job.checkpoint, 0);
                }
                assert_eq!(store.finish_crashed(id, attempt, "x", "y").await.unwrap(), job.state);
            }
        }
    }

    /// An attempt that is not the running one can write nothing.
    async fn ghost(&self, at: usize) {
        let Some(at) = self.at(at) else { return };
        let (store, job) = (&self.f.store, &self.jobs[at]);
        let attempt = if job.running() { job.attempt - 1 } else { job.attempt };
        let fenced = |result: Result<(), StoreError>| assert!(matches!(result, Err(StoreError::Fenced { .. })));
        fenced(store.heartbeat(job.id, attempt, LEASE).await.map(drop));
        fenced(store.record(job.id, attempt, &[epoch(99, 0.1, 0.1)]).await);
        fenced(store.release(job.id, attempt).await.map(drop));
        fenced(store.finish_crashed(job.id, attempt, "x", "y").await.map(drop));
        fenced(store.finish_failed(job.id, attempt, "x", "y").await);
    }

    async fn compare(&self) {
        for job in &self.jobs {
            let row = self.f.store.job(job.id).await.unwrap();
            let row_says = (row.state, row.attempt, row.cancel_requested, row.pause_requested, row.checkpoint_step);
            assert_eq!(row_says, (job.state, job.attempt, job.cancel, job.pause, job.checkpoint), "{job:?}");
            let told = self.f.store.job_metrics(job.id, 0, 1000).await.unwrap();
            assert_eq!(told.iter().map(|row| row.epoch).collect::<Vec<_>>(), (1..=job.epochs).collect::<Vec<_>>());
            let events = self.f.store.job_events(job.id, 0, 1000).await.unwrap();
            let epochs = events.iter().filter(|event| event.kind == "epoch").map(|event| event.data["epoch"].as_u64());
            assert_eq!(epochs.collect::<Vec<_>>(), (1..=u64::from(job.epochs)).map(Some).collect::<Vec<_>>());
            // Every change of state is one that the machine knows.
            let states: Vec<JobState> = events
                .iter()
                .filter(|event| event.kind == "state")
                .map(|event| event.data["state"].as_str().unwrap().parse().unwrap())
                .collect();
            assert_eq!(states.last(), Some(&job.state));
            for pair in states.windows(2) {
                assert!(pair[0].may_become(pair[1]), "{pair:?}");
            }
        }
        let owners: Vec<(i64, i64)> = sqlx::query_as("SELECT state = 'running', owner IS NOT NULL FROM jobs")
            .fetch_all(&self.f.store.reader)
            .await
            .unwrap();
        assert!(owners.iter().all(|(running, owned)| running == owned));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn the_store_and_the_model_agree(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut walk = Walk { f: Fixture::new().await, boot: Uuid::now_v7(), jobs: Vec::new() };
            for act in acts {
                walk.act(act).await;
            }
            walk.compare().await;
        });
    }
}
