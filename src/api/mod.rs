//! HTTP only: one file for each resource, extractors, problems, the OpenAPI description.
//!
//! Handlers are thin: they check what came, call one room, and shape the answer. No SQL, no files beyond
//! the upload's own, no tensors. Threads: handlers run on the async executor and never block it.

mod accept;
mod admission;
mod audit;
mod auth;
mod conditional;
mod dashboard;
mod dataset_pictures;
mod datasets;
mod deadline;
mod deletion;
mod distinct;
mod docs;
mod drain;
mod encoding;
mod epoch_stream;
mod errors;
mod extract;
mod file_name;
mod form;
mod health;
mod idempotency;
mod job;
mod job_events;
mod job_metrics;
mod job_report;
mod job_tensorboard;
mod jobs;
mod line;
mod listen;
mod model_files;
mod model_test;
mod models;
mod openapi;
mod pace;
mod page;
mod predict;
mod predict_body;
mod pretrained;
mod problem;
mod query;
mod rate;
mod retention;
mod router;
mod server;
mod standstill;
mod state;
mod sweeps;
mod telemetry;
mod upload;
mod wording;

pub use job::Job;
pub use job_report::JobReport;
pub(crate) use page::read_cursor;
pub(crate) use predict_body::read_json as read_predict_json;
pub use problem::{Problem, ProblemBody, ProblemItem};
pub use router::{openapi_json, router};
pub use server::{Server, machine_slots, open_rooms};
pub use state::{App, AppState};
pub use upload::check_name;
