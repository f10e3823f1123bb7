//! What is said about models and runs to the people who use them. Pure: from manifests and figures to words and tables.

mod card;
mod comparison;
mod comparison_text;
mod verdict;

pub use card::Card;
pub use comparison::{ComparedRun, Comparison, Outcome, PublishedModel, Row, RunFigures, Spread};
pub use verdict::{Difference, Finding};
