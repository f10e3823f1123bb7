//! What is said about a model to the people who use it. Pure: from a manifest to words and tables.

mod card;

pub use card::Card;
