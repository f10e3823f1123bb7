//! Starting from imported weights: what a configuration may ask for, and taking them over.

use std::path::Path;

use super::config::{DataFacts, FieldProblem, Head, PretrainedFacts, TrainConfig};
use super::error::TrainError;
use super::learner::Learner;
use crate::nn::resnet::IMAGENET_CLASSES;
use crate::sha256;

/// The weights that `config.pretrained` names.
pub(super) fn chosen<'a>(config: &TrainConfig, facts: &'a DataFacts) -> Option<&'a PretrainedFacts> {
    let name = config.pretrained.as_deref()?;
    facts.pretrained.iter().find(|weights| weights.name == name)
}

/// What is wrong with the fields about imported weights.
pub(super) fn check(config: &TrainConfig, facts: &DataFacts) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let mut wrong = |field: &str, code: &str, detail: String| problems.push(FieldProblem::new(field, code, detail));
    let Some(name) = config.pretrained.as_deref() else {
        if config.pretrained_sha256.is_some() {
            wrong("pretrained_sha256", "needs_pretrained", "pretrained_sha256 needs the name in pretrained".to_owned());
        }
        if config.backbone_learning_rate_factor == 0.0 {
            let detail = "a backbone_learning_rate_factor of 0 would leave a random backbone as it is; name weights in \
                          pretrained, or raise it";
            wrong("backbone_learning_rate_factor", "needs_pretrained", detail.to_owned());
        }
        return problems;
    };
    let Some(weights) = chosen(config, facts) else {
        let names: Vec<&str> = facts.pretrained.iter().map(|weights| weights.name.as_str()).collect();
        let there = if names.is_empty() { "none yet".to_owned() } else { names.join(", ") };
        let detail = format!(
            "no pretrained weights {name:?}; there are {there}; PUT /pretrained/{name} brings safetensors in, which `mixmatch import-weights FILE --output FILE.safetensors` makes of a .pth; without a server `mixmatch import-weights FILE --name {name}` does both"
        );
        wrong("pretrained", "unknown_pretrained", detail);
        return problems;
    };
    if weights.network != config.network {
        let detail = format!("{name} are weights of {}, but network is {}", weights.network, config.network);
        wrong("pretrained", "other_network", detail);
    } else if config.head == Head::Reference && weights.classes.map(i64::from) != Some(IMAGENET_CLASSES) {
        let detail =
            format!("head reference keeps an fc of {IMAGENET_CLASSES} outputs, which {name} lack; set head to linear");
        wrong("pretrained", "other_head", detail);
    }
    if config.pretrained_sha256.as_ref().is_some_and(|sha256| *sha256 != weights.sha256) {
        let detail = format!("{name} has the SHA-256 {} now; leave pretrained_sha256 out to take it", weights.sha256);
        wrong("pretrained_sha256", "changed", detail);
    }
    problems
}

/// Takes the file over into `learner`, after a look whether it still is what the configuration names; gives the
/// line for the log. That says what is not known: exported weights may have learned from the very images that are to validate.
///
/// # Errors
/// When the file is gone, has changed or does not fit.
pub(super) fn load(learner: &mut Learner, config: &TrainConfig, path: &Path) -> Result<String, TrainError> {
    let name = config.pretrained.clone().unwrap_or_default();
    let fail = |reason: String| TrainError::Pretrained { name: name.clone(), reason };
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => fail("they were deleted; import them again".to_owned()),
        _ => fail(error.to_string()),
    })?;
    if config.pretrained_sha256.as_ref() != Some(&sha256::of(&bytes)) {
        return Err(fail("the file has changed since it was imported; import it again".to_owned()));
    }
    let new = learner.start_from(&bytes)?;
    let rest = if new.is_empty() { "nothing".to_owned() } else { new.join(", ") };
    let backbone = match config.backbone_learning_rate_factor {
        0.0 => "; the backbone stays as it is".to_owned(),
        1.0 => String::new(),
        factor => format!("; the backbone learns at {factor} of the learning rate"),
    };
    Ok(format!(
        "started from {name}, new: {rest}{backbone}; what they were trained on is not known here: if images of this data set were \
         among it, validation and test figures are too high"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> DataFacts {
        let weights = |name: &str, network: &str, classes| PretrainedFacts {
            name: name.to_owned(),
            sha256: "ab".to_owned(),
            network: network.to_owned(),
            classes,
        };
        let pretrained = vec![
            weights("imagenet", "wide_resnet50_2", Some(1000)),
            weights("bare", "wide_resnet50_2", None),
            weights("shapes", "wrn-10-1", Some(2)),
        ];
        DataFacts { pretrained, ..DataFacts::default() }
    }

    fn codes(change: impl FnOnce(&mut TrainConfig)) -> Vec<String> {
        let mut config = TrainConfig { network: "wide_resnet50_2".to_owned(), size: 64, ..TrainConfig::default() };
        change(&mut config);
        check(&config, &facts()).into_iter().map(|problem| format!("{} {}", problem.pointer, problem.code)).collect()
    }

    #[test]
    fn a_start_must_exist_and_fit() {
        let named = |name: &'static str| move |config: &mut TrainConfig| config.pretrained = Some(name.to_owned());
        assert!(codes(named("imagenet")).is_empty() && codes(named("bare")).is_empty());
        assert_eq!(codes(named("elsewhere")), ["/pretrained unknown_pretrained"]);
        assert_eq!(codes(named("shapes")), ["/pretrained other_network"]);
        let reference = |name: &'static str| {
            codes(move |config| {
                config.head = Head::Reference;
                config.pretrained = Some(name.to_owned());
            })
        };
        assert!(reference("imagenet").is_empty());
        assert_eq!(reference("bare"), ["/pretrained other_head"]);
    }

    #[test]
    fn a_hash_holds_the_name_to_its_word() {
        let with = |sha256: &'static str| {
            codes(move |config| {
                config.pretrained = Some("imagenet".to_owned());
                config.pretrained_sha256 = Some(sha256.to_owned());
            })
        };
        assert!(with("ab").is_empty());
        assert_eq!(with("cd"), ["/pretrained_sha256 changed"]);
        let alone = codes(|config| config.pretrained_sha256 = Some("ab".to_owned()));
        assert_eq!(alone, ["/pretrained_sha256 needs_pretrained"]);
    }

    #[test]
    fn a_random_backbone_is_not_frozen() {
        let frozen = codes(|config| config.backbone_learning_rate_factor = 0.0);
        assert_eq!(frozen, ["/backbone_learning_rate_factor needs_pretrained"]);
        let pretrained = codes(|config| {
            config.backbone_learning_rate_factor = 0.0;
            config.pretrained = Some("imagenet".to_owned());
        });
        assert!(pretrained.is_empty());
    }
}
