//! Classes that answers leave out, in words for the log and the card. Few images do not prove a collapse: what is then published leaves
//! out a class all the same, and is not without a word.

use super::event::{EpochMetrics, TestMetrics};
use super::metrics::{Confusion, LeftOut};

impl EpochMetrics {
    /// That answers on the validation split leave a class out, in words for the log and the card; nothing where none is, and in
    /// older runs. Each class has images there.
    pub fn left_out(&self, classes: &[String]) -> Option<String> {
        let shares = &self.validation_classes;
        if shares.len() != classes.len() {
            return None;
        }
        let (out, answered): (Vec<usize>, Vec<usize>) = (0..classes.len()).partition(|&class| shares[class] <= 0.0);
        let images = match self.validation_images {
            0 => "validation images".to_owned(),
            images => format!("{images} validation images"),
        };
        let told = told_left_out(classes, (&out, &answered), [&images, "some are", "none"])?;
        Some(format!("{told}; where images are few that may be chance, and test images tell more"))
    }
}

impl TestMetrics {
    /// That the answers on the test split leave out a class that it has, in words for the log and the card; nothing where none is,
    /// and in figures of an older build.
    pub fn left_out(&self, classes: &[String]) -> Option<String> {
        let confusion = Confusion::of_counts(&self.confusion, classes.len())?;
        let LeftOut { classes: out, images, answered, is_chance } = confusion.left_out()?;
        let answers = confusion.answer_counts();
        let known: Vec<usize> = (0..classes.len()).filter(|&class| answers[class] > 0).collect();
        let all = format!("{} test images", confusion.total());
        let of_them = if images == 1 { "1 is".to_owned() } else { format!("{images} are") };
        let so = if answered == 0 { "none".to_owned() } else { answered.to_string() };
        let told = told_left_out(classes, (&out, &known), [&all, &of_them, &so])?;
        let why = if is_chance {
            "they are so few that it may be chance"
        } else {
            "that is no chance: whatever its accuracy, the model does not find them"
        };
        Some(format!("{told}; {why}"))
    }
}

/// Classes `out` that answers leave out, and those `known` that are answered at all, in words. `all` are all images, `of_them` says
/// how many are of the former, and `so` how many are answered so.
fn told_left_out(
    classes: &[String],
    (out, known): (&[usize], &[usize]),
    [all, of_them, so]: [&str; 3],
) -> Option<String> {
    /// Classes that are named.
    const MOST: usize = 3;
    match (out, known) {
        ([], _) | (_, []) => None,
        (_, [only]) => Some(format!("all {all} are answered {:?}, though {of_them} of other classes", classes[*only])),
        ([one], _) => Some(format!("{:?} is answered for {so} of the {all}, though {of_them} of it", classes[*one])),
        (several, _) => {
            let names: Vec<String> = several.iter().take(MOST).map(|&class| format!("{:?}", classes[class])).collect();
            let more = if several.len() > MOST { " …" } else { "" };
            Some(format!(
                "{} of {} classes ({}{more}) are answered for {so} of the {all}, though {of_them} of them",
                several.len(),
                classes.len(),
                names.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("c{class}")).collect()
    }

    #[test]
    fn a_class_that_validation_leaves_out_is_told_though_it_proves_nothing() {
        let told = |validation_classes: &[f64], validation_images| {
            let validation_classes = validation_classes.to_vec();
            let metrics = EpochMetrics { validation_classes, validation_images, ..EpochMetrics::default() };
            metrics.left_out(&names(3)).map(|told| told.split(';').next().unwrap().to_owned())
        };
        assert_eq!(told(&[0.5, 0.25, 0.25], 12), None);
        assert_eq!(told(&[], 12), None, "an older run");
        let all = "all 12 validation images are answered \"c1\", though some are of other classes";
        assert_eq!(told(&[0.0, 1.0, 0.0], 12).as_deref(), Some(all));
        let one = "\"c2\" is answered for none of the validation images, though some are of it";
        assert_eq!(told(&[0.5, 0.5, 0.0], 0).as_deref(), Some(one));
    }

    #[test]
    fn a_class_that_the_test_leaves_out_is_told_with_its_images_and_whether_it_is_chance() {
        let told = |confusion: Vec<Vec<u64>>| {
            let classes = names(confusion.len().max(2));
            TestMetrics { confusion, ..TestMetrics::default() }.left_out(&classes)
        };
        assert_eq!(told(vec![vec![30, 1], vec![2, 30]]), None);
        assert_eq!(told(vec![vec![30, 0], vec![0, 0]]), None, "of which there is no image");
        assert_eq!(told(Vec::new()), None, "an older build's figures");
        assert_eq!(
            told(vec![vec![240, 0], vec![160, 0]]).as_deref(),
            Some(
                "all 400 test images are answered \"c0\", though 160 are of other classes; that is no chance: whatever its \
                 accuracy, the model does not find them"
            )
        );
        assert_eq!(
            told(vec![vec![238, 2], vec![160, 0]]).as_deref(),
            Some(
                "\"c1\" is answered for 2 of the 400 test images, though 160 are of it; that is no chance: whatever its accuracy, \
                 the model does not find them"
            )
        );
        assert_eq!(
            told(vec![vec![3, 1, 0], vec![0, 3, 0], vec![1, 0, 0]]).as_deref(),
            Some(
                "\"c2\" is answered for none of the 8 test images, though 1 is of it; they are so few that it may be chance"
            )
        );
        // Of ten classes with two images each, five are taken for the others.
        let row = |class: usize| (0..10).map(|answer| if answer == class / 2 { 2 } else { 0 }).collect::<Vec<u64>>();
        let many = told((0..10).map(row).collect()).unwrap();
        assert!(
            many.starts_with(
                "5 of 10 classes (\"c5\", \"c6\", \"c7\" …) are answered for none of the 20 test images, though 10 are of them;"
            ),
            "{many}"
        );
    }
}
