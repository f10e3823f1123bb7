//! Sweeps under `/jobs`: what stands for the many jobs of one request.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::job::{DatasetName, Job};
use super::job_report::compared;
use crate::report::ComparedRun;
use crate::store::{JobEntry, JobState, SweepRow};

/// Many jobs from one request, and how far they are as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sweep {
    /// UUID v7.
    id: Uuid,
    /// `sweep`: a single job says `job` here.
    kind: SweepKind,
    /// What its jobs learn from.
    dataset: DatasetName,
    /// `queued` until the first job begins, `running` until the last one ends, `paused` where only paused ones are left; then `succeeded` if all of them
    /// have, else `failed` if one has, else `canceled`.
    #[schema(value_type = JobState)]
    state: &'static str,
    /// Jobs in each state.
    counts: JobCounts,
    /// True while every job that is not over was asked to pause; the sweep is paused when the last that runs is.
    pause_requested: bool,
    /// Optimiser steps done in all jobs.
    step: u64,
    /// Optimiser steps of all jobs.
    steps: u64,
    /// When it was queued.
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    /// The earliest begin among its jobs' last attempts: a job that was paused or put back begins again.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<jiff::Timestamp>,
    /// When the last of its jobs ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<jiff::Timestamp>,
    /// The request, less its data set.
    #[schema(value_type = Object)]
    request: Map<String, Value>,
    /// Its jobs in the order of the queue. Each is a job under its own id too.
    jobs: Vec<ComparedRun>,
}

/// What a sweep says of itself, beside single jobs.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SweepKind {
    /// Many jobs of one request.
    Sweep,
}

/// Jobs in each state.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobCounts {
    queued: usize,
    running: usize,
    paused: usize,
    succeeded: usize,
    failed: usize,
    canceled: usize,
}

impl From<SweepRow> for Sweep {
    fn from(row: SweepRow) -> Self {
        let states: Vec<JobState> = row.jobs.iter().map(|job| job.state).collect();
        let count = |wanted: JobState| states.iter().filter(|state| **state == wanted).count();
        let state = JobState::of_all(&states);
        let step = |job: &crate::store::JobRow| match job.state {
            JobState::Succeeded => job.config.steps(),
            _ => job.step(),
        };
        let ended = row.jobs.iter().filter_map(|job| job.finished_at).max();
        let axes = row.axes();
        let pauses = |job: &crate::store::JobRow| job.state.is_final() || job.pause_requested;
        Self {
            id: row.id,
            kind: SweepKind::Sweep,
            dataset: DatasetName { id: row.dataset_id, name: row.dataset_name },
            state: state.as_str(),
            counts: JobCounts {
                queued: count(JobState::Queued),
                running: count(JobState::Running),
                paused: count(JobState::Paused),
                succeeded: count(JobState::Succeeded),
                failed: count(JobState::Failed),
                canceled: count(JobState::Canceled),
            },
            pause_requested: !state.is_final() && row.jobs.iter().all(pauses),
            step: row.jobs.iter().map(step).sum(),
            steps: row.jobs.iter().map(|job| job.config.steps()).sum(),
            created_at: row.created_at,
            started_at: row.jobs.iter().filter_map(|job| job.started_at).min(),
            finished_at: ended.filter(|_| state.is_final()),
            request: row.request,
            jobs: row.jobs.into_iter().map(|job| compared(job, &axes)).collect(),
        }
    }
}

/// What an id under `/jobs` stands for: one job, or a sweep of many. `kind` tells them apart.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(discriminator(property_name = "kind", mapping(("job" = "#/components/schemas/Job"), ("sweep" = "#/components/schemas/Sweep"))))]
pub enum JobOrSweep {
    /// `kind` is `job`.
    Job(Box<Job>),
    /// `kind` is `sweep`.
    Sweep(Box<Sweep>),
}

impl From<JobEntry> for JobOrSweep {
    fn from(entry: JobEntry) -> Self {
        match entry {
            JobEntry::Job(row) => Self::Job(Box::new(Job::from(*row))),
            JobEntry::Sweep(row) => Self::Sweep(Box::new(row.into())),
        }
    }
}
