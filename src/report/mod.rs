//! What is said about models and shown of data sets to the people who use them.
//!
//! [`Card`] is pure, from a manifest to words and tables; [`pictures`] reads images and computes.

mod canvas;
mod card;
pub mod pictures;

pub use card::Card;
