//! What speaks against a version, and stands in its card before anything else.

use crate::train::event::{EpochMetrics, TestMetrics};

/// That its answers leave out a class: on the test split or, where there is none, on the validation split at the chosen epoch.
pub fn doubts(test: Option<&TestMetrics>, chosen: Option<&EpochMetrics>, classes: &[String]) -> Vec<String> {
    let told = match test {
        Some(test) => test.left_out(classes),
        None => chosen.and_then(|chosen| chosen.left_out(classes)),
    };
    told.map(|told| format!("Doubt: {told}.")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{card, has, manifest, test_metrics};
    use super::super::{Card, ModelManifest};
    use super::*;

    /// A version whose run validated on twelve images and answered one class alone.
    fn one_sided(test: Option<&TestMetrics>) -> Card {
        let plain = manifest(["mask", "no_mask"], test);
        let chosen = EpochMetrics {
            validation_classes: vec![1.0, 0.0],
            validation_images: 12,
            ..serde_json::from_value(plain.validation.clone()).unwrap()
        };
        let validation = serde_json::to_value(chosen).unwrap();
        Card::new("mask", 3, "a1b2", ModelManifest { validation, ..plain })
    }

    #[test]
    fn a_version_that_answers_one_class_on_the_test_split_says_so_before_anything_else() {
        let test = TestMetrics { confusion: vec![vec![60, 0], vec![40, 0]], ..test_metrics() };
        let card = one_sided(Some(&test));
        let said =
            "Doubt: all 100 test images are answered \"mask\", though 40 are of other classes; that is no chance";
        assert!(card.doubts.len() == 1 && card.doubts[0].starts_with(said), "{:?}", card.doubts);
        let text = card.markdown();
        let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words:?} is not in:\n{text}"));
        assert!(at(&format!("\n\n**{said}")) < at("## Intended use"), "{text}");
        // The epoch's own doubt stands at its figures.
        assert!(
            at("- Doubt at this epoch: all 12 validation images are answered \"mask\"") > at("## Figures"),
            "{text}"
        );
        assert_eq!(serde_json::to_value(&card).unwrap()["doubts"][0], card.doubts[0]);
    }

    #[test]
    fn without_a_test_split_the_validation_images_are_what_is_known() {
        let card = one_sided(None);
        has(&card.markdown(), &["\n\n**Doubt: all 12 validation images are answered \"mask\", though some are of"]);
    }

    #[test]
    fn a_version_that_answers_each_of_its_classes_on_the_test_split_has_no_doubt_in_front() {
        let cleared = one_sided(Some(&test_metrics()));
        assert!(cleared.doubts.is_empty(), "{:?}", cleared.doubts);
        has(&cleared.markdown(), &["- Doubt at this epoch: all 12 validation images"]);
        let plain = card("mask", Some(&test_metrics()));
        assert!(plain.doubts.is_empty() && !plain.markdown().contains("are answered \"mask\""));
    }

    #[test]
    fn a_class_in_a_doubt_is_no_markdown() {
        let test = TestMetrics { confusion: vec![vec![0, 60], vec![0, 40]], ..test_metrics() };
        let card = Card::new("mask", 3, "a1b2", manifest(["*a*\n# top", "<b>"], Some(&test)));
        has(
            &card.markdown(),
            &["\n\n**Doubt: all 100 test images are answered \"\\<b\\>\", though 60 are of other classes;"],
        );
        assert!(card.doubts[0].contains("\"<b>\""), "the JSON form is plain: {:?}", card.doubts);
    }
}
