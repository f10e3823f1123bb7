//! The service as its users meet it: the real server on a free port, a real SQLite file, real child
//! processes (or stand-ins that crash, hang and lie on purpose), spoken to over HTTP.

mod ambiguous;
mod app;
mod audit;
mod backup;
mod command_line;
mod contract;
mod crashes;
mod dataset_pictures;
mod datasets;
mod downloads;
mod exits;
mod faces;
mod faults;
mod hostile;
mod int8;
mod jobs;
mod keys;
mod lists;
mod loading;
mod metrics;
mod pause;
mod pictures;
mod predictions;
mod pretrained;
mod slow_callers;
mod sweeps;
mod terminal;
mod versions;
mod whole_way;
