//! Which of a class's test figures are known.

use crate::train::event::TestMetrics;

/// Whether a class has test images, without which nobody knows its recall and F1, and answers, without which nobody knows its
/// precision: the figures are 0 then, and are not to be read so.
pub(super) struct Met {
    pub images: bool,
    pub answers: bool,
}

impl Met {
    /// Of the class at this place.
    pub fn of(test: &TestMetrics, place: usize) -> Self {
        let images = test.classes.get(place).map(|class| class.images);
        let images = images.or_else(|| test.confusion.get(place).map(|counts| counts.iter().sum()));
        let answers = test.confusion.iter().map(|counts| counts.get(place)).sum::<Option<u64>>();
        Self { images: images != Some(0), answers: answers != Some(0) }
    }

    /// Of the class that F1, precision and recall speak of; `classes` are the classes in their order, which older figures do not have.
    pub fn of_positive(test: &TestMetrics, classes: &[String]) -> Self {
        let place = test.classes.iter().position(|class| class.class == test.positive_class);
        let place = place.or_else(|| classes.iter().position(|class| *class == test.positive_class));
        place.map_or(Self { images: true, answers: true }, |place| Self::of(test, place))
    }
}
