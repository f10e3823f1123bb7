//! What is said about models and runs, and shown of data sets, to the people who use them.
//!
//! Cards and comparisons are pure, from manifests and figures to words and tables; [`pictures`] reads images and computes.

mod against_chosen;
mod by_group;
mod canvas;
mod card;
mod comparison;
mod comparison_csv;
mod comparison_text;
mod difference;
mod gaps;
mod met;
mod naming;
pub mod pictures;
mod rows;
mod tensorboard;
mod verdict;

pub use against_chosen::AgainstChosen;
pub use by_group::GroupDifference;
pub use card::Card;
pub use comparison::{ComparedRun, Comparison, Outcome, PublishedModel, RunFigures, Spread};
pub use difference::Difference;
pub use gaps::Finding;
pub use rows::Row;
pub use tensorboard::EventFile;
