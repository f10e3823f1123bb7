//! Signs that a run goes wrong, looked for at each epoch's end: a class that nobody answers any more, guesses
//! that forget a class, an average that has lost touch with its weights.
//!
//! Self-training feeds on its own answers, so a class that is lost does not come back. A run whose best epoch is
//! collapsed fails (`run`); this says so while there is still time to cancel it, and by the same rule.

use std::f64::consts::PI;

use super::checkpoint::{CheckpointError, Snapshot};
use super::error::{against_collapse, guesses_count};
use super::event::{EpochMetrics, EpochWarning};
use super::metrics::{Confusion, starved};
use super::run::forgotten;

/// Epochs in a row before the log tells: the first evaluations of a run are all over the place.
const PATIENCE: u32 = 2;

/// Difference in accuracy between EMA and raw weights.
const APART: f64 = 0.15;

/// Half the sum of the differences between the labels' shares of the classes and those that the network finds among the
/// unlabelled images, with two classes; more where there are more. Where labels were drawn at random, runs had .02 at most; with half
/// of the labels of either class and a pool of 9 : 1 the first guesses had .14, and less and less after it, as the network was
/// taught the labels' shares (docs/benchmarks.md, "Labels that are not drawn at random").
const OTHER_SHARES: f64 = 0.1;

/// The most of it, beside what chance makes of an epoch's guesses: shares differ by less than 1 whatever is said, and of 200 classes as
/// much would else be allowed.
const MOST_OTHER_SHARES: f64 = 0.3;

/// What is known of a run so far.
#[derive(Debug)]
pub struct Watch {
    classes: Vec<String>,
    /// Each class's share of the labelled images.
    prior: Vec<f64>,
    images: Looked,
    /// Each sign, and for how many epochs in a row it has shown; more than [`PATIENCE`] once it was told.
    seen: Vec<(EpochWarning, u32)>,
}

/// What the guesses of an epoch are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// Unlabelled images of an epoch's steps.
    pub guessed: u64,
    /// Whether guesses are aligned to the labels' shares, which hides what the network thinks.
    pub aligned: bool,
    /// Whether every class fills as much of a batch: the network learns shares then that are neither the labels' nor the images'.
    pub balanced: bool,
}

/// A sign that an epoch shows.
struct Sign {
    kind: EpochWarning,
    class: usize,
    /// The share that is due to the class.
    due: f64,
}

impl Watch {
    /// Watches a run over `classes`, whose labelled images have the shares `prior`.
    pub fn new(classes: &[String], prior: &[f32], images: Looked) -> Self {
        let kinds = [
            EpochWarning::AnswersCollapsed,
            EpochWarning::GuessesCollapsed,
            EpochWarning::SharesApart,
            EpochWarning::AverageApart,
        ];
        Self {
            classes: classes.to_vec(),
            prior: prior.iter().map(|&share| f64::from(share)).collect(),
            images,
            seen: kinds.map(|kind| (kind, 0)).to_vec(),
        }
    }

    /// Puts what has shown into a checkpoint.
    ///
    /// # Errors
    /// See [`Snapshot::put`].
    pub fn save(&self, snapshot: &mut Snapshot) -> Result<(), CheckpointError> {
        snapshot.put("watch", &self.seen)
    }

    /// Takes it out again.
    ///
    /// # Errors
    /// [`CheckpointError::Unfit`].
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), CheckpointError> {
        // An earlier version knew fewer signs.
        for (kind, seen) in snapshot.get::<Vec<(EpochWarning, u32)>>("watch")? {
            self.seen.iter_mut().filter(|(known, _)| *known == kind).for_each(|(_, count)| *count = seen);
        }
        Ok(())
    }

    /// Notes the signs in `metrics.warnings`, and gives a line for the log on each that has lasted, once. `answers` are those on the
    /// validation split: a model of this epoch would be refused if they collapsed.
    pub fn look(&mut self, metrics: &mut EpochMetrics, answers: &Confusion) -> Vec<String> {
        let said = said(metrics);
        let unguessed = starved(&self.prior, said, self.images.guessed);
        let Looked { aligned, balanced, .. } = self.images;
        let others = if aligned && !balanced && unguessed.is_none() { self.other_shares(said) } else { None };
        let of_labels = |kind, class: usize| Sign { kind, class, due: self.prior[class] };
        let signs = [
            answers.collapse().map(|of| Sign { kind: EpochWarning::AnswersCollapsed, class: of.starved, due: of.due }),
            unguessed.map(|class| of_labels(EpochWarning::GuessesCollapsed, class)),
            others.map(|class| of_labels(EpochWarning::SharesApart, class)),
            apart(metrics).then(|| of_labels(EpochWarning::AverageApart, 0)),
        ];
        metrics.warnings = signs.iter().flatten().map(|sign| sign.kind).collect();
        let mut lines = Vec::new();
        for index in 0..self.seen.len() {
            let (kind, before) = self.seen[index];
            let sign = signs.iter().flatten().find(|sign| sign.kind == kind);
            let now = match sign {
                _ if before > PATIENCE => before,
                Some(_) => before + 1,
                None => 0,
            };
            self.seen[index].1 = now;
            if let Some(sign) = sign.filter(|_| now == PATIENCE) {
                lines.push(self.line(sign, metrics, answers));
                self.seen[index].1 = PATIENCE + 1;
            }
        }
        lines
    }

    /// The class whose share is the most another than the labels', if the shares are others.
    fn other_shares(&self, said: &[f64]) -> Option<usize> {
        let apart = |class: usize| (said[class] - self.prior[class]).abs();
        let classes = || 0..self.prior.len().min(said.len());
        let distance = classes().map(apart).sum::<f64>() / 2.0;
        let all = self.prior.len() as f64;
        // Of equal classes, guessed right: half the sum of the mean absolute deviations.
        let chance = (all / (2.0 * PI * self.images.guessed as f64)).sqrt();
        let allowed = (OTHER_SHARES * (all / 2.0).sqrt()).min(MOST_OTHER_SHARES + chance);
        classes().max_by(|&a, &b| apart(a).total_cmp(&apart(b))).filter(|_| distance > allowed)
    }

    fn line(&self, sign: &Sign, metrics: &EpochMetrics, answers: &Confusion) -> String {
        let (epoch, name, due) = (metrics.epoch, &self.classes[sign.class], sign.due * 100.0);
        let percent = |shares: &[f64]| shares.get(sign.class).copied().unwrap_or_default() * 100.0;
        let said = said(metrics);
        match sign.kind {
            EpochWarning::AnswersCollapsed => {
                let collapse = answers.collapse();
                let forgotten =
                    collapse.map(|collapse| forgotten(&self.classes, answers, &collapse)).unwrap_or_default();
                format!(
                    "epoch {epoch}: the network answers {forgotten}; a run whose best epoch looks so is not published: {}",
                    against_collapse(metrics.lambda_u)
                )
            }
            EpochWarning::GuessesCollapsed => format!(
                "epoch {epoch}: {name:?} is guessed for {:.1} % of the unlabelled images, {due:.1} % of the labels are of it; \
                 unless there really are so few, {}",
                percent(said),
                self.against_lost_guesses(metrics.lambda_u)
            ),
            EpochWarning::SharesApart => format!(
                "epoch {epoch}: the network takes {:.1} % of the unlabelled images for {name:?}, {due:.1} % of the labels are of it; \
                 if that is so, such a run unlearns the longer it trains: label images that are drawn at random from all, so that \
                 both have the same shares",
                percent(said)
            ),
            EpochWarning::AverageApart => {
                let (average, raw) = (metrics.validation_accuracy, metrics.validation_accuracy_raw.unwrap_or_default());
                let why = if average < raw {
                    "the average lags behind: lower ema_decay or train for more steps"
                } else {
                    "the weights jump about: lower learning_rate"
                };
                format!(
                    "epoch {epoch}: validation accuracy is {:.1} % with averaged weights and {:.1} % with raw ones; {why}",
                    average * 100.0,
                    raw * 100.0
                )
            }
        }
    }

    /// What may mend guesses that forget a class, at an epoch of this λ_U.
    fn against_lost_guesses(&self, lambda_u: Option<f64>) -> &'static str {
        match (guesses_count(lambda_u), self.images.aligned) {
            (true, false) => "lower lambda_u, raise warmup or set align",
            (true, true) => "lower lambda_u, raise warmup or label images that are drawn at random from all",
            (false, false) => "raise warmup or set align",
            (false, true) => "raise warmup or label images that are drawn at random from all",
        }
    }
}

/// Shares of the classes among the unlabelled images that `align` has not touched, where they are known.
fn said(metrics: &EpochMetrics) -> &[f64] {
    if metrics.unlabelled_classes.is_empty() { &metrics.guess_classes } else { &metrics.unlabelled_classes }
}

fn apart(metrics: &EpochMetrics) -> bool {
    metrics.validation_accuracy_raw.is_some_and(|raw| (raw - metrics.validation_accuracy).abs() > APART)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn watch() -> Watch {
        aligning(false)
    }

    fn aligning(aligned: bool) -> Watch {
        let images = Looked { guessed: 1600, aligned, balanced: false };
        Watch::new(&["mask".to_owned(), "no_mask".to_owned()], &[0.6, 0.4], images)
    }

    fn epoch(epoch: u32, answers: [f64; 2]) -> EpochMetrics {
        EpochMetrics {
            epoch,
            validation_classes: answers.to_vec(),
            validation_accuracy: 0.8,
            validation_accuracy_raw: Some(0.78),
            ..EpochMetrics::default()
        }
    }

    /// An epoch whose validation images, so many of either class, are answered as the first class, but for `second` of them.
    fn answered(at: u32, images: [usize; 2], second: usize) -> (EpochMetrics, Confusion) {
        let [first, all] = [images[0], images[0] + images[1]];
        let classes_from = |border: usize| (0..all).map(|image| usize::from(image >= border)).collect::<Vec<_>>();
        let confusion = Confusion::new(2, &classes_from(first), &classes_from(all - second));
        let metrics = EpochMetrics {
            validation_classes: confusion.answer_shares(),
            validation_collapsed: confusion.collapse().is_some(),
            ..epoch(at, [0.0, 0.0])
        };
        (metrics, confusion)
    }

    #[test]
    fn a_lost_class_is_noted_at_once_and_told_once_when_it_lasts() {
        let (mut watch, mut told) = (watch(), Vec::new());
        for (at, second) in (1..).zip([2, 60, 4, 2, 0, 80]) {
            let (mut metrics, answers) = answered(at, [120, 80], second);
            told.extend(watch.look(&mut metrics, &answers));
            let lost = second < 8;
            assert_eq!(
                metrics.warnings,
                if lost { vec![EpochWarning::AnswersCollapsed] } else { vec![] },
                "epoch {at}"
            );
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("epoch 4: the network answers \"no_mask\" for 1 %")
                && told[0].contains("40 % are of it"),
            "{told:?}"
        );
    }

    #[test]
    fn answers_are_judged_by_the_rule_that_a_model_is_refused_by() {
        // Nobody answers the second class for 30 images: of the shares that are due to it, only 2 in 7 and 3 in 10 make that no chance.
        for (prior, images, lost) in
            [([5.0 / 7.0, 2.0 / 7.0], [22, 8], false), ([11.0 / 15.0, 4.0 / 15.0], [21, 9], true)]
        {
            let mut watch = Watch::new(&names(2), &prior, Looked { guessed: 1600, aligned: false, balanced: false });
            let mut told = Vec::new();
            for at in 1..=3 {
                let (mut metrics, answers) = answered(at, images, 0);
                told.extend(watch.look(&mut metrics, &answers));
                let warned = metrics.warnings.contains(&EpochWarning::AnswersCollapsed);
                assert_eq!((warned, metrics.validation_collapsed), (lost, lost), "{images:?}");
            }
            assert_eq!(told.len(), usize::from(lost), "{told:?}");
            let says = "\"c1\" for 0 % of the validation images, where 30 % are of it; a run whose best epoch looks so \
                        is not published";
            assert!(told.iter().all(|line| line.contains(says)), "{told:?}");
        }
    }

    #[test]
    fn guesses_and_an_average_that_lags_are_told_apart_from_answers() {
        let (mut watch, mut told) = (watch(), Vec::new());
        for at in 1..=3 {
            let mut metrics = EpochMetrics {
                guess_classes: vec![0.01, 0.99],
                validation_accuracy_raw: Some(0.96),
                ..epoch(at, [0.5, 0.5])
            };
            told.extend(watch.look(&mut metrics, &nothing()));
            assert_eq!(metrics.warnings, [EpochWarning::GuessesCollapsed, EpochWarning::AverageApart]);
        }
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("\"mask\" is guessed for 1.0 %"), "{told:?}");
        assert!(
            told[1].contains("80.0 % with averaged weights and 96.0 %") && told[1].contains("ema_decay"),
            "{told:?}"
        );
    }

    #[test]
    fn what_alignment_hides_is_seen_in_what_the_network_says() {
        let said = |aligned: bool, said: [f64; 2]| {
            let (mut watch, mut told) = (aligning(aligned), Vec::new());
            for at in 1..=3 {
                let mut metrics = EpochMetrics {
                    guess_classes: vec![0.6, 0.4],
                    unlabelled_classes: said.to_vec(),
                    ..epoch(at, [0.5, 0.5])
                };
                told.extend(watch.look(&mut metrics, &nothing()));
                if at == 3 {
                    return (metrics.warnings, told);
                }
            }
            unreachable!()
        };
        assert_eq!(said(true, [0.65, 0.35]), (vec![], vec![]), "a network may be a little off");
        assert_eq!(said(false, [0.9, 0.1]), (vec![], vec![]), "without alignment other shares are right as they are");
        let (warnings, told) = said(true, [0.9, 0.1]);
        assert_eq!(warnings, [EpochWarning::SharesApart]);
        assert!(
            told.len() == 1 && told[0].contains("10.0 % of the unlabelled images for \"no_mask\", 40.0 %"),
            "{told:?}"
        );
        let (warnings, told) = said(true, [0.98, 0.02]);
        assert_eq!(warnings, [EpochWarning::GuessesCollapsed], "a class is forgotten, however the guesses are pulled");
        assert!(told[0].contains("\"no_mask\" is guessed for 2.0 %"), "{told:?}");
    }

    #[test]
    fn other_shares_are_seen_of_many_classes_too() {
        for classes in [100, 200, 1000] {
            let images = Looked { guessed: 1600, aligned: true, balanced: false };
            let warnings = |said: Vec<f64>| {
                let mut watch = Watch::new(&names(classes), &vec![1.0 / classes as f32; classes], images);
                let mut metrics = EpochMetrics {
                    unlabelled_classes: said,
                    validation_accuracy: 0.8,
                    validation_accuracy_raw: Some(0.8),
                    validation_classes: vec![1.0 / classes as f64; classes],
                    ..EpochMetrics::default()
                };
                watch.look(&mut metrics, &nothing());
                metrics.warnings
            };
            // Three quarters are taken for one class, each other has a quarter of its due.
            let mut said = vec![0.25 / classes as f64; classes];
            said[3] += 0.75;
            assert_eq!(warnings(said), [EpochWarning::SharesApart], "{classes} classes");
            // What chance does to 1,600 guesses.
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let mut drawn = vec![0.0; classes];
            (0..1600).for_each(|_| drawn[rng.random_range(0..classes)] += 1.0 / 1600.0);
            assert_eq!(warnings(drawn), [], "{classes} classes");
        }
    }

    #[test]
    fn a_run_without_guesses_has_none_to_doubt() {
        let mut metrics = epoch(1, [0.6, 0.4]);
        assert!(watch().look(&mut metrics, &nothing()).is_empty() && metrics.warnings.is_empty());
    }

    #[test]
    fn what_is_advised_is_what_the_run_reads_and_has_not_set() {
        let advised = |aligned: bool, lambda_u: Option<f64>, guesses: [f64; 2]| {
            let (mut watch, mut told) = (aligning(aligned), Vec::new());
            for at in 1..=2 {
                let (metrics, answers) = answered(at, [120, 80], if guesses[1] == 0.0 { 80 } else { 2 });
                let mut metrics = EpochMetrics { lambda_u, guess_classes: guesses.to_vec(), ..metrics };
                told.extend(watch.look(&mut metrics, &answers));
            }
            assert_eq!(told.len(), 1, "{told:?}");
            told.remove(0)
        };
        // In a warm-up, and in a supervised run at all times, guesses mend nothing; nor where the ramp has not begun to rise.
        for lambda_u in [None, Some(0.0)] {
            let told = advised(false, lambda_u, [0.6, 0.4]);
            assert!(told.ends_with("train for more steps, lower learning_rate or label more images"), "{told}");
            let told = advised(false, lambda_u, [1.0, 0.0]);
            assert!(told.ends_with("unless there really are so few, raise warmup or set align"), "{told}");
        }
        let told = advised(false, Some(3.0), [0.6, 0.4]);
        assert!(told.ends_with("not published: lower lambda_u, raise ramp or warmup, or label more images"), "{told}");
        assert!(advised(false, Some(3.0), [1.0, 0.0]).ends_with("lower lambda_u, raise warmup or set align"));
        let told = advised(true, Some(3.0), [1.0, 0.0]);
        assert!(
            told.contains("lambda_u") && told.ends_with("label images that are drawn at random from all"),
            "{told}"
        );
        let told = advised(true, None, [1.0, 0.0]);
        assert!(!told.contains("align") && !told.contains("lambda_u"), "{told}");
    }

    #[test]
    fn many_forgotten_classes_are_counted() {
        let images = Looked { guessed: 1600, aligned: false, balanced: false };
        let mut watch = Watch::new(&names(60), &[1.0 / 60.0; 60], images);
        let truth: Vec<usize> = (0..6000).map(|image| image % 60).collect();
        let answers: Vec<usize> = truth.iter().map(|&class| if class < 10 { class } else { 59 }).collect();
        let answers = Confusion::new(60, &truth, &answers);
        let mut told = Vec::new();
        for at in 1..=2 {
            let shares = answers.answer_shares();
            told.extend(watch.look(&mut EpochMetrics { validation_classes: shares, ..epoch(at, [0.0; 2]) }, &answers));
        }
        let says = "epoch 2: the network answers 49 of 60 classes (\"c10\" …) for 0 % of the validation images, where 82 % are of them;";
        assert!(told.len() == 1 && told[0].starts_with(says), "{told:?}");
    }

    /// Answers to no images.
    fn nothing() -> Confusion {
        Confusion::new(2, &[], &[])
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("c{class}")).collect()
    }
}
