//! What is said about models and runs, and shown of data sets, to the people who use them.
//!
//! Cards and comparisons are pure, from manifests and figures to words and tables; [`pictures`] reads images and computes.

mod by_group;
mod canvas;
mod card;
mod comparison;
mod comparison_text;
pub mod pictures;
mod tensorboard;
mod verdict;

pub use by_group::GroupDifference;
pub use card::Card;
pub use comparison::{ComparedRun, Comparison, Outcome, PublishedModel, Row, RunFigures, Spread};
pub use tensorboard::EventFile;
pub use verdict::{Difference, Finding};
