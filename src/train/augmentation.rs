//! The `augment_*` fields of a configuration: what they become, their ranges, and the rules of the policies.

use super::config::{FieldProblem, Policy, TrainConfig};
use crate::augment::{Augment, CANDIDATES};

impl TrainConfig {
    /// What is done to every training image.
    pub fn augment(&self) -> Augment {
        Augment {
            policy: self.augment_policy,
            flip: self.augment_flip,
            pad: self.augment_pad,
            rotation: self.augment_rotation,
            scale: self.augment_scale,
            fill: self.augment_fill,
            brightness: self.augment_brightness,
            contrast: self.augment_contrast,
            saturation: self.augment_saturation,
            hue: self.augment_hue,
            gamma: self.augment_gamma,
            grayscale: self.augment_grayscale,
            erase: self.augment_erase,
            crop: 0.0,
        }
    }
}

/// Name, value, least and greatest allowed value of each numeric field.
pub fn ranges(config: &TrainConfig) -> [(&'static str, f64, f64, f64); 9] {
    [
        ("augment_brightness", config.augment_brightness, 0.0, 0.9),
        ("augment_contrast", config.augment_contrast, 0.0, 0.9),
        ("augment_saturation", config.augment_saturation, 0.0, 0.9),
        ("augment_hue", config.augment_hue, 0.0, 0.5),
        ("augment_gamma", config.augment_gamma, 0.0, 0.9),
        ("augment_grayscale", config.augment_grayscale, 0.0, 1.0),
        ("augment_rotation", config.augment_rotation, 0.0, 180.0),
        ("augment_scale", config.augment_scale, 0.0, 0.5),
        ("augment_erase", config.augment_erase, 0.0, 0.9),
    ]
}

/// What the fields must be beside each other.
pub fn check(config: &TrainConfig) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    if config.augment_pad >= config.size {
        let detail = format!("augment_pad must be smaller than size ({})", config.size);
        problems.push(FieldProblem::new("augment_pad", "out_of_range", detail));
    }
    if config.augment_policy == Policy::OneOfSeven {
        problems.extend(one_of_seven(config));
    }
    problems
}

/// All of the seven must be on and nothing else, so that the stored configuration says what was done.
fn one_of_seven(config: &TrainConfig) -> Vec<FieldProblem> {
    let needed = [
        ("augment_brightness", config.augment_brightness > 0.0),
        ("augment_contrast", config.augment_contrast > 0.0),
        ("augment_saturation", config.augment_saturation > 0.0),
        ("augment_flip", config.augment_flip),
        ("augment_rotation", config.augment_rotation > 0.0),
        ("augment_grayscale", config.augment_grayscale > 0.0),
        ("augment_gamma", config.augment_gamma > 0.0),
    ];
    let foreign = [
        ("augment_pad", config.augment_pad > 0),
        ("augment_scale", config.augment_scale > 0.0),
        ("augment_hue", config.augment_hue > 0.0),
        ("augment_erase", config.augment_erase > 0.0),
    ];
    let missing = needed.into_iter().filter(|(_, on)| !on).map(|(field, _)| {
        let detail = format!("augment_policy one_of_seven chooses {field} too: switch it on, or take compose");
        FieldProblem::new(field, "needed_by_policy", detail)
    });
    let surplus = foreign.into_iter().filter(|(_, on)| *on).map(|(field, _)| {
        let detail =
            format!("{field} is none of the seven of augment_policy one_of_seven: set it to 0, or take compose");
        FieldProblem::new(field, "not_in_policy", detail)
    });
    let views = (config.k as usize > CANDIDATES).then(|| {
        let k = config.k;
        let detail = format!("k is {k}, but augment_policy one_of_seven can tell at most {CANDIDATES} views apart");
        FieldProblem::new("k", "out_of_range", detail)
    });
    missing.chain(surplus).chain(views).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::preset;

    fn wrong(config: &TrainConfig) -> Vec<String> {
        check(config).into_iter().map(|problem| format!("{} {}", problem.pointer, problem.code)).collect()
    }

    #[test]
    fn the_references_augmentation_is_allowed_up_to_seven_views() {
        let mut config = TrainConfig { k: 7, ..preset::reference() };
        assert_eq!(wrong(&config), [""; 0]);
        config.k = 8;
        assert_eq!(wrong(&config), ["/k out_of_range"]);
    }

    #[test]
    fn one_of_seven_needs_all_seven_and_nothing_else() {
        let config =
            TrainConfig { augment_policy: Policy::OneOfSeven, augment_erase: 0.2, augment_hue: 0.1, ..preset::plain() };
        let mut wrong = wrong(&config);
        wrong.sort_unstable();
        let expected = [
            "/augment_brightness needed_by_policy",
            "/augment_contrast needed_by_policy",
            "/augment_erase not_in_policy",
            "/augment_gamma needed_by_policy",
            "/augment_grayscale needed_by_policy",
            "/augment_hue not_in_policy",
            "/augment_pad not_in_policy",
            "/augment_rotation needed_by_policy",
            "/augment_saturation needed_by_policy",
        ];
        assert_eq!(wrong, expected);
    }

    #[test]
    fn the_papers_augmentation_and_the_weak_half_of_ours_are_mirroring_and_cropping() {
        let expected = Augment { flip: true, pad: 4, ..Augment::default() };
        assert_eq!(preset::paper().augment(), expected);
        assert_eq!(preset::quick().augment().weak(), expected);
        assert_ne!(preset::quick().augment(), expected);
    }
}
