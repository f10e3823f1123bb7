//! Children and servers that die, and clocks that jump.

use uuid::Uuid;

use super::{Fixture, LEASE, epoch, step};
use crate::failpoint;
use crate::store::jobs::{JobRow, JobState};
use crate::train::event::{Event, LogLevel};

/// A run begins from nothing.
const ANEW: Event = Event::Start { step: 0, epoch: 0, restored: false };

/// A checkpoint of the running attempt.
async fn checkpoint(f: &Fixture, job: &JobRow, step: u64) {
    f.store.record(job.id, job.attempt, &[Event::Checkpoint { step }]).await.unwrap();
}

async fn crash(f: &Fixture, job: &JobRow) -> JobState {
    f.store.finish_crashed(job.id, job.attempt, "killed_by_signal", "killed by signal 9").await.unwrap()
}

#[tokio::test]
async fn a_crashed_run_is_tried_again_only_while_it_gets_further() {
    let f = Fixture::new().await;
    let job = f.running().await;
    checkpoint(&f, &job, 10).await;
    assert_eq!(crash(&f, &job).await, JobState::Queued);
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    f.store.record(job.id, 2, &[Event::Start { step: 10, epoch: 1, restored: true }]).await.unwrap();
    checkpoint(&f, &job, 20).await;
    assert_eq!(crash(&f, &job).await, JobState::Queued, "the checkpoint moved");
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!(crash(&f, &job).await, JobState::Failed, "it did not");
    let error = f.store.job(job.id).await.unwrap().error.unwrap();
    assert_eq!(error.0, "killed_by_signal");
    assert!(error.1.contains("signal 9") && error.1.contains("step 20"), "{}", error.1);

    // Whoever retries it gives it another chance.
    f.store.retry_job(job.id).await.unwrap();
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!((crash(&f, &job).await, job.checkpoint_step), (JobState::Queued, Some(20)));
}

/// What its log warns of.
async fn warnings(f: &Fixture, job: &JobRow) -> Vec<String> {
    let lines = f.store.job_logs(job.id, 0, 100).await.unwrap();
    lines.into_iter().filter(|line| line.level == "warn").map(|line| line.message).collect()
}

/// The next attempt finds no checkpoint, and writes one after `step`.
async fn anew_to(f: &Fixture, step: u64) -> JobRow {
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    f.store.record(job.id, job.attempt, &[ANEW]).await.unwrap();
    checkpoint(f, &job, step).await;
    job
}

#[tokio::test]
async fn a_run_whose_checkpoint_is_gone_says_so_and_its_next_crash_is_the_first() {
    let f = Fixture::new().await;
    let job = f.running().await;
    checkpoint(&f, &job, 400).await;
    assert_eq!(crash(&f, &job).await, JobState::Queued);
    let job = anew_to(&f, 50).await;
    assert_eq!(warnings(&f, &job).await, ["its checkpoint after step 400 is not there any more: the run begins anew"]);
    let events = f.store.job_events(job.id, 0, 100).await.unwrap();
    let told: Vec<&str> = events.iter().map(|event| event.kind.as_str()).filter(|kind| *kind != "state").collect();
    assert_eq!(told, ["log", "start"]);
    assert_eq!(crash(&f, &job).await, JobState::Queued, "it began anew");
    // That may go on for ever.
    let job = anew_to(&f, 50).await;
    assert_eq!(crash(&f, &job).await, JobState::Failed, "it is lost again and again, and comes no further");
}

#[tokio::test]
async fn servers_that_die_while_checkpoints_are_lost_again_and_again_do_so_three_times() {
    let f = Fixture::new().await;
    let job = f.running().await;
    checkpoint(&f, &job, 400).await;
    f.store.reclaim(Uuid::now_v7()).await.unwrap();
    let mut states = Vec::new();
    for _ in 0..3 {
        anew_to(&f, 50).await;
        f.store.reclaim(Uuid::now_v7()).await.unwrap();
        states.push(f.state(job.id).await);
    }
    assert_eq!(states, [JobState::Queued, JobState::Queued, JobState::Failed]);
}

/// Its pretraining writes checkpoints of its own, after no step, which are no progress beyond what was lost.
#[tokio::test]
async fn a_run_that_pretrains_and_loses_its_checkpoints_again_and_again_fails() {
    let f = Fixture::new().await;
    let job = f.running().await;
    checkpoint(&f, &job, 400).await;
    assert_eq!(crash(&f, &job).await, JobState::Queued);
    let mut states = Vec::new();
    for _ in 0..2 {
        let job = f.claim(Uuid::now_v7()).await.unwrap();
        checkpoint(&f, &job, 0).await;
        f.store.record(job.id, job.attempt, &[ANEW]).await.unwrap();
        checkpoint(&f, &job, 0).await;
        checkpoint(&f, &job, 50).await;
        states.push(crash(&f, &job).await);
    }
    assert_eq!(states, [JobState::Queued, JobState::Failed]);
}

#[tokio::test]
async fn that_a_run_begins_anew_is_told_once_and_not_where_nothing_is_lost() {
    let f = Fixture::new().await;
    let job = f.running().await;
    f.store.record(job.id, 1, &[Event::Checkpoint { step: 0 }, ANEW, Event::Checkpoint { step: 30 }]).await.unwrap();
    assert!(warnings(&f, &job).await.is_empty(), "pretraining has ended");

    f.store.release(job.id, 1).await.unwrap();
    f.claim(Uuid::now_v7()).await.unwrap();
    let itself = "no checkpoint can be used: the run begins anew".to_owned();
    let said = Event::Log { level: LogLevel::Warn, message: itself.clone() };
    f.store.record(job.id, 2, &[said, ANEW, Event::Checkpoint { step: 40 }]).await.unwrap();
    assert_eq!(warnings(&f, &job).await, std::slice::from_ref(&itself));

    // One that pretrains is heard of before training begins.
    f.store.release(job.id, 2).await.unwrap();
    f.claim(Uuid::now_v7()).await.unwrap();
    f.store.record(job.id, 3, &[Event::Checkpoint { step: 0 }, ANEW]).await.unwrap();
    let lost = "its checkpoint after step 40 is not there any more: the run begins anew".to_owned();
    assert_eq!(warnings(&f, &job).await, [itself, lost]);
}

#[tokio::test]
async fn a_checkpoint_of_pretraining_is_further_than_none() {
    let f = Fixture::new().await;
    f.running().await;
    f.store.reclaim(Uuid::now_v7()).await.unwrap();
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    // It is after no step of training.
    checkpoint(&f, &job, 0).await;
    assert_eq!(crash(&f, &job).await, JobState::Queued);
    // Each is further than the one before, to deaths of the server too.
    for _ in 0..4 {
        let job = f.claim(Uuid::now_v7()).await.unwrap();
        checkpoint(&f, &job, 0).await;
        f.store.reclaim(Uuid::now_v7()).await.unwrap();
        assert_eq!(f.state(job.id).await, JobState::Queued);
    }
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!(crash(&f, &job).await, JobState::Queued, "the deaths were the server's");
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!(crash(&f, &job).await, JobState::Failed, "it came no further");
}

#[tokio::test]
async fn a_death_of_the_server_is_no_crash_of_the_run() {
    let f = Fixture::new().await;
    let job = f.running().await;
    checkpoint(&f, &job, 10).await;
    f.store.reclaim(Uuid::now_v7()).await.unwrap();
    let again = async || {
        let job = f.claim(Uuid::now_v7()).await.unwrap();
        f.store.record(job.id, job.attempt, &[Event::Start { step: 10, epoch: 1, restored: true }]).await.unwrap();
        crash(&f, &job).await
    };
    assert_eq!(again().await, JobState::Queued, "its first crash");
    assert_eq!(again().await, JobState::Failed, "its second at the same place");
}

#[tokio::test]
async fn a_run_that_goes_on_from_a_checkpoint_after_no_step_still_has_it() {
    let f = Fixture::new().await;
    let job = f.running().await;
    let start = |restored| Event::Start { step: 0, epoch: 0, restored };
    let begin = async |job: &JobRow, restored| {
        f.store.record(job.id, job.attempt, &[start(restored)]).await.unwrap();
        f.store.job(job.id).await.unwrap().checkpoint_step
    };
    assert_eq!(begin(&job, false).await, None);
    // Pretraining has ended, and the server stops.
    checkpoint(&f, &job, 0).await;
    f.store.record(job.id, job.attempt, &[step(3)]).await.unwrap();
    f.store.release(job.id, job.attempt).await.unwrap();

    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!(begin(&job, true).await, Some(0));
    assert!(f.store.job(job.id).await.unwrap().progress.is_none(), "its steps come again");
    assert_eq!(crash(&f, &job).await, JobState::Queued, "what pretraining left is there to go on from");

    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!(begin(&job, true).await, Some(0));
    assert_eq!(crash(&f, &job).await, JobState::Failed, "it came no further");

    // Where that cannot be used any more, there is nothing.
    f.store.retry_job(job.id).await.unwrap();
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    assert_eq!(begin(&job, false).await, None);
}

#[tokio::test]
async fn what_was_worked_is_the_time_of_all_attempts_and_none_in_between() {
    let seconds = async |f: &Fixture, id| f.store.job(id).await.unwrap().worked.as_secs();
    let f = Fixture::new().await;
    let job = f.running().await;
    failpoint::shift_clock(10_000);
    f.store.release(job.id, job.attempt).await.unwrap();
    failpoint::shift_clock(500_000);
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    failpoint::shift_clock(505_000);
    assert_eq!(crash(&f, &job).await, JobState::Failed);
    assert_eq!(seconds(&f, job.id).await, 15);

    // Of a server that died is known how long it held the lease.
    f.store.retry_job(job.id).await.unwrap();
    f.claim(Uuid::now_v7()).await.unwrap();
    failpoint::shift_clock(9_000_000);
    f.store.reclaim(Uuid::now_v7()).await.unwrap();
    let worked = seconds(&f, job.id).await;
    failpoint::shift_clock(0);
    assert_eq!(worked, 15 + LEASE.as_secs());
}

#[tokio::test]
async fn only_what_can_be_gone_on_from_names_a_checkpoint() {
    for (code, left) in [("storage", Some(10)), ("diverged", None), ("collapsed", None)] {
        let f = Fixture::new().await;
        let job = f.running().await;
        checkpoint(&f, &job, 10).await;
        f.store.finish_failed(job.id, job.attempt, code, "why").await.unwrap();
        assert_eq!(f.store.job(job.id).await.unwrap().checkpoint_step, left, "{code}");
    }
    let f = Fixture::new().await;
    let job = f.running().await;
    checkpoint(&f, &job, 10).await;
    f.store.finish_succeeded(job.id, job.attempt, &f.model("done")).await.unwrap();
    assert_eq!(f.store.job(job.id).await.unwrap().checkpoint_step, None);
}

#[tokio::test]
async fn a_run_that_crashed_before_any_checkpoint_has_failed() {
    let f = Fixture::new().await;
    let job = f.running().await;
    assert_eq!(crash(&f, &job).await, JobState::Failed);
    let error = f.store.job(job.id).await.unwrap().error.unwrap();
    assert!(error.1.contains("no checkpoint"), "{}", error.1);
}

#[tokio::test]
async fn a_crash_while_a_wish_waits_meets_the_wish() {
    let f = Fixture::new().await;
    let job = f.running().await;
    f.store.pause_job(job.id).await.unwrap();
    assert_eq!(crash(&f, &job).await, JobState::Paused);
    f.store.resume_job(job.id).await.unwrap();
    let job = f.claim(Uuid::now_v7()).await.unwrap();
    f.store.cancel_job(job.id).await.unwrap();
    assert_eq!(crash(&f, &job).await, JobState::Canceled);
}

#[tokio::test]
async fn servers_may_die_as_often_as_they_like_while_the_job_gets_further() {
    let f = Fixture::new().await;
    f.queue().await;
    for death in 1..=10 {
        let job = f.claim(Uuid::now_v7()).await.unwrap();
        checkpoint(&f, &job, death).await;
        assert_eq!(f.store.reclaim(Uuid::now_v7()).await.unwrap(), 1);
        assert_eq!(f.state(job.id).await, JobState::Queued, "death {death}");
    }
    let mut states = Vec::new();
    while let Some(job) = f.claim(Uuid::now_v7()).await {
        f.store.reclaim(Uuid::now_v7()).await.unwrap();
        states.push(f.state(job.id).await);
    }
    assert_eq!(states, [JobState::Queued, JobState::Failed], "the third in a row without a step forward");

    let paused = f.running().await;
    f.store.pause_job(paused.id).await.unwrap();
    f.store.reclaim(Uuid::now_v7()).await.unwrap();
    assert_eq!(f.state(paused.id).await, JobState::Paused);
}

#[tokio::test]
async fn a_retried_job_has_all_the_deaths_of_servers_before_it_again() {
    let f = Fixture::new().await;
    let job = f.running().await;
    for _ in 0..2 {
        f.store.reclaim(Uuid::now_v7()).await.unwrap();
        f.claim(Uuid::now_v7()).await.unwrap();
    }
    f.store.finish_failed(job.id, 3, "network", "no memory").await.unwrap();
    f.store.retry_job(job.id).await.unwrap();
    let mut states = Vec::new();
    while f.claim(Uuid::now_v7()).await.is_some() {
        f.store.reclaim(Uuid::now_v7()).await.unwrap();
        states.push(f.state(job.id).await);
    }
    assert_eq!(states, [JobState::Queued, JobState::Queued, JobState::Failed]);
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_clock_that_is_set_back_a_day_confuses_nobody() {
    let f = Fixture::new().await;
    let boot = Uuid::now_v7();
    f.queue().await;
    let job = f.claim(boot).await.unwrap();
    f.store.record(job.id, 1, &[epoch(1, 0.5, 0.5), step(4)]).await.unwrap();
    let seen = f.store.job_events(job.id, 0, 100).await.unwrap().last().unwrap().seq;

    failpoint::shift_clock(-86_400_000);
    // The lease now seems to last another day, or, seen from before, to have run out: neither decides anything.
    assert_eq!(f.store.heartbeat(job.id, 1, LEASE).await.unwrap(), None);
    assert_eq!(f.store.reclaim(boot).await.unwrap(), 0, "its own jobs are left alone");
    f.store.record(job.id, 1, &[epoch(2, 0.6, 0.4)]).await.unwrap();
    let after = f.store.job_events(job.id, seen, 100).await.unwrap();
    assert_eq!(
        after.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(),
        ["epoch"],
        "nothing lost, nothing twice"
    );
    assert!(after[0].at < job.started_at.unwrap(), "the clock did go back");
    f.store.finish_failed(job.id, 1, "x", "y").await.unwrap();
    let row = f.store.job(job.id).await.unwrap();
    assert!(row.finished_at.unwrap() >= row.started_at.unwrap(), "no job ends before it began");

    // A server that starts in the past takes over what one in the future left.
    let job = f.running().await;
    failpoint::shift_clock(-2 * 86_400_000);
    assert_eq!(f.store.reclaim(Uuid::now_v7()).await.unwrap(), 1);
    assert_eq!(f.claim(Uuid::now_v7()).await.unwrap().id, job.id);
    failpoint::shift_clock(0);
}
