//! Whether the unlabelled images helped, in one sentence that holds whoever won.

use super::by_group::losers;
use super::comparison::ComparedRun;
use super::difference::Difference;
use super::gaps::{FEWEST, Finding};
use super::naming::{labels, named, title};
use super::rows::Row;
use crate::train::config::AlgorithmName;

/// A sentence for each number of labels that both algorithms have runs of, once there is something to say.
pub(super) fn verdict(rows: &[Row], differences: &[Difference], runs: &[ComparedRun]) -> String {
    let mut counts: Vec<Option<u32>> = rows.iter().map(|row| row.labelled).collect();
    counts.dedup();
    let of = |labelled| differences.iter().filter(move |difference| difference.labelled == labelled);
    let told = counts.iter().flat_map(|&labelled| {
        let chosen: Vec<String> = of(labelled)
            .filter(|difference| difference.chosen)
            .map(|difference| sentence(difference) + &losers(difference))
            .collect();
        match of(labelled).next() {
            Some(other) if chosen.is_empty() => vec![unchosen(other)],
            Some(_) => chosen,
            None => without_a_pair(labelled, runs).into_iter().collect(),
        }
    });
    let told = told.collect::<Vec<_>>().join(" ");
    if !told.is_empty() {
        return told;
    }
    let has_both = |labelled: &Option<u32>| {
        let (supervised, mine) = by_kind(*labelled, runs);
        !supervised.is_empty() && !mine.is_empty()
    };
    if counts.iter().any(has_both) {
        "No run and its supervised baseline have both succeeded yet.".to_owned()
    } else if runs.iter().all(|run| run.algorithm == AlgorithmName::Supervised) {
        "All runs are supervised: none of them guesses labels, which is what a baseline is held against.".to_owned()
    } else {
        "Without a supervised run on the same labels there is nothing to compare with; \"baseline\": true trains it."
            .to_owned()
    }
}

/// The supervised runs with a number of labels, and the others.
fn by_kind(labelled: Option<u32>, runs: &[ComparedRun]) -> (Vec<&ComparedRun>, Vec<&ComparedRun>) {
    runs.iter().filter(|run| run.labelled == labelled).partition(|run| run.algorithm == AlgorithmName::Supervised)
}

/// Of a number of labels whose runs make no pair, and will make none: why.
fn without_a_pair(labelled: Option<u32>, runs: &[ComparedRun]) -> Option<String> {
    let (supervised, mine) = by_kind(labelled, runs);
    let name = title(mine.first()?.algorithm);
    supervised.first()?;
    // One that still runs may make a pair yet, unless all that it could make one with are lost.
    let are_lost = |kind: &[&ComparedRun]| kind.iter().all(|run| run.has_ended() && !run.succeeded());
    let have_ended = mine.iter().chain(&supervised).all(|run| run.has_ended());
    if !(have_ended || are_lost(&mine) || are_lost(&supervised)) {
        return None;
    }
    let why: Vec<String> =
        [lost(name, &mine), lost("the supervised baseline", &supervised)].into_iter().flatten().collect();
    let why =
        if why.is_empty() { "no run has a supervised one of its seed and values".to_owned() } else { why.join(", ") };
    Some(format!("With {} nothing can be compared: {why}.", labels(labelled)))
}

/// `MixMatch collapsed or diverged in 2 and failed in 1 of 5 runs`; nothing where none was lost.
fn lost(name: &str, runs: &[&ComparedRun]) -> Option<String> {
    let count = |is_so: fn(&ComparedRun) -> bool| runs.iter().filter(|run| is_so(run)).count();
    let ways = [
        ("collapsed or diverged", count(ComparedRun::failed_by_its_figures)),
        ("failed", count(|run| run.state == "failed" && !run.failed_by_its_figures())),
        ("was canceled", count(|run| run.state == "canceled")),
    ];
    let told: Vec<String> =
        ways.into_iter().filter(|(_, runs)| *runs > 0).map(|(how, runs)| format!("{how} in {runs}")).collect();
    (!told.is_empty()).then(|| format!("{name} {} of {} runs", told.join(" and "), runs.len()))
}

/// Of a number of labels where only values that validation did not choose have their baseline.
fn unchosen(difference: &Difference) -> String {
    format!(
        "With {} the values that validation chose have no supervised baseline that succeeded beside them; others have, see the \
         table.",
        labels(difference.labelled)
    )
}

fn sentence(difference: &Difference) -> String {
    let name = title(difference.algorithm);
    let (spread, what) = match (difference.test_accuracy, difference.validation_accuracy) {
        (Some(spread), _) => (spread, "test accuracy"),
        (None, Some(spread)) => (spread, "validation accuracy"),
        (None, None) => return String::new(),
    };
    let points = format!("{:.1}", spread.mean.abs() * 100.0);
    let level = points == "0.0" && difference.finding == Finding::Undecided;
    let size = match spread.sd {
        Some(sd) => format!("{points} ± {:.1} points of {what}", sd * 100.0),
        None => format!("{points} points of {what}"),
    };
    let order = match spread.mean {
        _ if level => "is level with".to_owned(),
        mean if mean > 0.0 => format!("is {size} ahead of"),
        _ => format!("is {size} behind"),
    };
    let (place, over, collapsed) = (place(difference), over(difference), collapsed(difference));
    let other = if difference.pretrained_alike {
        "supervised training after the same pretraining"
    } else {
        "its supervised baseline"
    };
    match (difference.finding, difference.pairs) {
        (Finding::Ahead, _) => {
            let claim = claim(difference);
            format!("With {place} {name} beats {other} by {size} {over}{collapsed}{claim}")
        }
        (Finding::Behind, _) => {
            let tuned = tuned(difference);
            let smaller = if difference.weighs_guesses { " or a smaller lambda_u" } else { "" };
            format!(
                "With {place} {name} does not pay here: it {order} {other} {over}{collapsed}; a longer run{smaller} is the first \
                 thing to try.{tuned}"
            )
        }
        (Finding::Undecided, 1) => {
            let tuned = tuned(difference);
            format!("With {place} {name} {order} {other} with one seed, which decides nothing{collapsed}.{tuned}")
        }
        (Finding::Undecided, pairs) => {
            let why = match difference.interval {
                _ if pairs < FEWEST => "three seeds are the least to tell",
                Some([low, _]) if low > 0.0 && difference.chosen_by_these => {
                    "the choice among several values alone may do that, and test images would tell"
                }
                _ => "chance alone may do that",
            };
            let tuned = tuned(difference);
            format!("With {place} nothing is decided: {name} {order} {other} {over}{collapsed}; {why}.{tuned}")
        }
    }
}

/// `over 3 seeds on the same 900 test images (ahead in 3)`. Validation images are said to have chosen what they did.
fn over(difference: &Difference) -> String {
    let Difference { pairs, wins, .. } = difference;
    if difference.test_accuracy.is_none() {
        let number = difference.validation_images.map_or(String::new(), |images| format!("{images} "));
        let chose = if difference.chosen_by_these { "the epoch and these values" } else { "the epoch" };
        return format!("over {pairs} seeds on {number}validation images (which chose {chose}, too), ahead in {wins}");
    }
    let on = difference.test_images.map_or(String::new(), |images| format!(" on the same {images} test images"));
    format!("over {pairs} seeds{on} (ahead in {wins})")
}

/// `; it collapsed or diverged in 2 of 5 seeds`, `; it collapsed or diverged in 2 and the supervised run in 1 of 6 seeds`.
fn collapsed(difference: &Difference) -> String {
    let Difference { pairs, collapsed, baseline_collapsed, both_collapsed, .. } = difference;
    let seeds = pairs + collapsed + baseline_collapsed + both_collapsed;
    match (collapsed + both_collapsed, baseline_collapsed + both_collapsed) {
        (0, 0) => String::new(),
        (mine, 0) => format!("; it collapsed or diverged in {mine} of {seeds} seeds"),
        (0, supervised) => format!("; the supervised run collapsed or diverged in {supervised} of {seeds} seeds"),
        (mine, supervised) => {
            format!("; it collapsed or diverged in {mine} and the supervised run in {supervised} of {seeds} seeds")
        }
    }
}

/// The end of the sentence where the algorithm is ahead. That it helped is said of an algorithm that is ahead of the supervised values
/// that validation chose, too, and of the seeds in which it neither collapsed nor diverged.
fn claim(difference: &Difference) -> String {
    let guesses = if difference.pretrained_alike { "its guesses" } else { "the unlabelled images" };
    let lost = difference.collapsed + difference.both_collapsed > 0;
    let limit = if lost { " where it neither collapsed nor diverged" } else { "" };
    let Some(chosen) = &difference.against_chosen else { return format!(": {guesses} helped{limit}.") };
    let told = chosen.told();
    match chosen.finding {
        Finding::Ahead => format!("; {told}: {guesses} helped{limit}."),
        Finding::Behind => format!("; but {told}: tuned alike, {guesses} did not help."),
        Finding::Undecided => format!("; but {told}: tuned alike, nothing is decided."),
    }
}

/// Where nothing is claimed, what the supervised values that validation chose have.
fn tuned(difference: &Difference) -> String {
    difference.against_chosen.as_ref().map_or(String::new(), |chosen| format!(" Tuned alike: {}.", chosen.told()))
}

/// `40 labels`, `all labels`, `40 labels and lambda_u 3`.
fn place(difference: &Difference) -> String {
    let values = named(&difference.values).into_iter().map(|value| format!(" and {value}"));
    format!("{}{}", labels(difference.labelled), values.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::{of_config, run, unfinished};
    use super::*;
    use crate::train::config::TrainConfig;
    use AlgorithmName::{Mixmatch, Supervised};

    /// MixMatch less supervised on test, a seed each.
    fn pairs(gaps: &[f64]) -> Vec<ComparedRun> {
        let pair = |(seed, gap): (usize, &f64)| {
            [run(40, seed as u64, Supervised, 0.8, 0.8), run(40, seed as u64, Mixmatch, 0.8, 0.8 + gap)]
        };
        gaps.iter().enumerate().flat_map(pair).collect()
    }

    fn compared(gaps: &[f64]) -> Comparison {
        Comparison::new(pairs(gaps), Vec::new())
    }

    #[test]
    fn the_sentence_is_right_whoever_won() {
        let told = |gaps: &[f64]| compared(gaps).verdict;
        let ahead = told(&[0.028, 0.036, 0.044]);
        assert!(
            ahead.contains(
                "MixMatch beats its supervised baseline by 3.6 ± 0.8 points of test accuracy over 3 seeds (ahead in 3)"
            ),
            "{ahead}"
        );
        let behind = told(&[-0.05, -0.04, -0.06]);
        assert!(
            behind.contains("does not pay here: it is 5.0 ± 1.0 points") && behind.contains("(ahead in 0)"),
            "{behind}"
        );
        assert!(ahead.ends_with("the unlabelled images helped."), "{ahead}");
        let open = told(&[0.05, -0.02, 0.03]);
        assert!(
            open.contains("nothing is decided: MixMatch is 2.0 ± 3.6 points") && open.contains("(ahead in 2)"),
            "{open}"
        );
        assert!(told(&[0.2]).contains("20.0 points of test accuracy ahead of its supervised baseline with one seed"));
        assert!(told(&[0.1, 0.1]).contains("nothing is decided"), "two equal gaps are no proof");
        assert!(told(&[0.0]).contains("level"));
    }

    #[test]
    fn guesses_that_weigh_nothing_are_not_to_weigh_less() {
        let told = |lambda_u, axes: &[String]| {
            let of = |seed, algorithm, test| {
                let config = TrainConfig { labelled: Some(40), seed, algorithm, lambda_u, ..TrainConfig::default() };
                of_config(config, axes, 0.8, test)
            };
            let pair = |seed: u64| [of(seed, Supervised, 0.8), of(seed, Mixmatch, 0.7 + 0.001 * seed as f64)];
            Comparison::new((0..3).flat_map(pair).collect(), axes.to_vec()).verdict
        };
        let both = "; a longer run or a smaller lambda_u is the first thing to try.";
        let grid = ["lambda_u".to_owned()];
        for axes in [&grid[..0], &grid[..]] {
            let (weightless, weighed) = (told(0.0, axes), told(3.0, axes));
            assert!(weightless.ends_with("; a longer run is the first thing to try."), "{weightless}");
            assert!(weighed.ends_with(both), "{weighed}");
        }
    }

    #[test]
    fn pretrained_runs_are_measured_against_the_baseline_or_else_against_pretrained_ones() {
        let of = |seed: u64, algorithm, pretrain_epochs, accuracy| {
            let config = TrainConfig { labelled: Some(40), seed, algorithm, pretrain_epochs, ..TrainConfig::default() };
            let wobbled = accuracy + 0.001 * seed as f64;
            ComparedRun { test_images: Some(900), ..of_config(config, &["pretrain_epochs".to_owned()], 0.8, wobbled) }
        };
        let pretrained = |seed| [of(seed, Mixmatch, 100, 0.9), of(seed, Supervised, 100, 0.85 + 0.001 * seed as f64)];
        let mut runs: Vec<ComparedRun> = (0..3).flat_map(pretrained).collect();
        let told = Comparison::new(runs.clone(), Vec::new());
        assert!(told.differences[0].pretrained_alike);
        assert!(
            told.verdict.contains(
                "MixMatch beats supervised training after the same pretraining by 4.9 ± 0.1 points of test accuracy over 3 seeds \
                 on the same 900 test images (ahead in 3): its guesses helped."
            ),
            "{}",
            told.verdict
        );
        assert!(told.markdown("m").contains("Against supervised training after the same pretraining, on"));
        runs.extend((0..3).map(|seed| of(seed, Supervised, 0, 0.7)));
        let told = Comparison::new(runs.clone(), vec!["pretrain_epochs".to_owned()]);
        assert_eq!((told.rows.len(), told.differences[0].pretrained_alike), (3, false));
        assert!(
            told.verdict.contains("and pretrain_epochs 100 MixMatch beats its supervised baseline by 20.0"),
            "{}",
            told.verdict
        );
        // The seed whose baseline failed is left out, not held against the pretrained run.
        let mut failed = runs.clone();
        failed.last_mut().unwrap().state = "failed";
        let told = Comparison::new(failed, vec!["pretrain_epochs".to_owned()]);
        assert_eq!(
            (told.differences[0].seeds.as_slice(), told.differences[0].pretrained_alike),
            ([0, 1].as_slice(), false)
        );
        // Without a grid, runs that were pretrained and runs that were not share no line.
        runs.iter_mut().for_each(|run| run.values.clear());
        let told = Comparison::new(runs, Vec::new());
        assert!(!told.markdown("m").contains("chosen by validation"), "nobody asked to choose by that");
        assert_eq!((told.rows.len(), told.axes), (3, vec!["pretrain_epochs".to_owned()]));
    }

    #[test]
    fn what_differs_by_rounding_alone_is_level() {
        let level = compared(&[1e-16, -2e-17, 0.0]);
        let difference = &level.differences[0];
        assert_eq!((difference.wins, difference.losses, difference.test_accuracy.unwrap().mean), (0, 0, 0.0));
        assert!(level.verdict.contains("is level with its supervised baseline"), "{}", level.verdict);
    }

    #[test]
    fn without_a_pair_the_sentence_says_what_is_missing() {
        let alone = Comparison::new(vec![run(40, 0, Mixmatch, 0.9, 0.9)], Vec::new());
        assert!(alone.verdict.contains("\"baseline\": true") && alone.differences.is_empty(), "{}", alone.verdict);
        let supervised = Comparison::new(vec![run(40, 0, Supervised, 0.9, 0.9)], Vec::new());
        assert!(supervised.verdict.starts_with("All runs are supervised"), "{}", supervised.verdict);
        let waiting = vec![run(40, 0, Mixmatch, 0.9, 0.9), unfinished(40, 0, Supervised, "running")];
        assert!(Comparison::new(waiting, Vec::new()).verdict.contains("yet"));
    }

    #[test]
    fn runs_that_collapsed_are_in_the_sentence() {
        let fails = |seed| [run(40, seed, Supervised, 0.8, 0.8), unfinished(40, seed, Mixmatch, "failed")];
        let with = |gaps: &[f64], failed: std::ops::Range<u64>| {
            let runs = pairs(gaps).into_iter().chain(failed.flat_map(fails)).collect();
            Comparison::new(runs, Vec::new()).verdict
        };
        let ahead = with(&[0.028, 0.036, 0.044], 3..5);
        let end = "over 3 seeds (ahead in 3); it collapsed or diverged in 2 of 5 seeds: the unlabelled images helped where it \
                   neither collapsed nor diverged.";
        assert!(ahead.ends_with(end), "{ahead}");
        let open = with(&[0.1, 0.1], 2..3);
        assert!(
            open.ends_with(
                "(ahead in 2); it collapsed or diverged in 1 of 3 seeds; three seeds are the least to tell."
            ),
            "{open}"
        );
        let one = with(&[0.1], 1..3);
        assert!(
            one.ends_with("with one seed, which decides nothing; it collapsed or diverged in 2 of 3 seeds."),
            "{one}"
        );
        let none = with(&[], 0..3);
        assert_eq!(none, "With 40 labels nothing can be compared: MixMatch collapsed or diverged in 3 of 3 runs.");
        let runs = vec![
            run(40, 0, Supervised, 0.8, 0.8),
            unfinished(40, 0, Mixmatch, "failed"),
            unfinished(40, 1, Mixmatch, "running"),
        ];
        let waiting = Comparison::new(runs, Vec::new()).verdict;
        assert!(waiting.ends_with("yet."), "{waiting}");
    }

    #[test]
    fn baselines_that_collapsed_are_in_the_sentence() {
        let told = |runs: Vec<ComparedRun>| Comparison::new(runs, Vec::new()).verdict;
        let without = |seed| [unfinished(40, seed, Supervised, "failed"), run(40, seed, Mixmatch, 0.9, 0.9)];
        let with = |gaps: &[f64], seeds: std::ops::Range<u64>| pairs(gaps).into_iter().chain(seeds.flat_map(without));
        let ahead = told(with(&[0.028, 0.036, 0.044], 3..5).collect());
        let end =
            "(ahead in 3); the supervised run collapsed or diverged in 2 of 5 seeds: the unlabelled images helped.";
        assert!(ahead.ends_with(end), "{ahead}");
        let fails = [run(40, 9, Supervised, 0.8, 0.8), unfinished(40, 9, Mixmatch, "failed")];
        let both = told(with(&[0.1, 0.1], 2..3).chain(fails).collect());
        assert!(both.contains("; it collapsed or diverged in 1 and the supervised run in 1 of 4 seeds;"), "{both}");
        let none = told(with(&[], 0..3).collect());
        assert_eq!(
            none,
            "With 40 labels nothing can be compared: the supervised baseline collapsed or diverged in 3 of 3 runs."
        );
    }

    #[test]
    fn a_seed_in_which_both_collapsed_counts_for_either() {
        let fails = |seed, algorithm| unfinished(40, seed, algorithm, "failed");
        let mut runs = pairs(&[0.028, 0.036, 0.044]);
        runs.extend([run(40, 3, Supervised, 0.8, 0.8), fails(3, Mixmatch), fails(4, Supervised), fails(4, Mixmatch)]);
        let told = Comparison::new(runs, Vec::new()).verdict;
        let end = "; it collapsed or diverged in 2 and the supervised run in 1 of 5 seeds: the unlabelled images helped where it \
                   neither collapsed nor diverged.";
        assert!(told.ends_with(end), "{told}");
    }

    #[test]
    fn a_number_of_labels_whose_runs_have_ended_without_a_pair_says_why() {
        let told = |runs: Vec<ComparedRun>| Comparison::new(runs, Vec::new()).verdict;
        let failed = |seed| ComparedRun {
            error: Some("storage: no room".to_owned()),
            ..unfinished(100, seed, Supervised, "failed")
        };
        let lost = vec![
            failed(0),
            failed(1),
            unfinished(100, 2, Supervised, "failed"),
            run(100, 0, Mixmatch, 0.9, 0.9),
            unfinished(100, 1, Mixmatch, "canceled"),
        ];
        let reason = "With 100 labels nothing can be compared: MixMatch was canceled in 1 of 2 runs, the supervised baseline \
                      collapsed or diverged in 1 and failed in 2 of 3 runs.";
        assert_eq!(told(lost.clone()), reason);
        // Beside another number of labels, too.
        let beside = told(pairs(&[0.028, 0.036, 0.044]).into_iter().chain(lost).collect());
        assert!(beside.ends_with(&format!("the unlabelled images helped. {reason}")), "{beside}");
        // Whoever still runs will have no baseline either.
        let running = vec![failed(0), unfinished(100, 0, Mixmatch, "running")];
        let expected = "With 100 labels nothing can be compared: the supervised baseline failed in 1 of 1 runs.";
        assert_eq!(told(running), expected);
        let apart = told(vec![run(100, 0, Supervised, 0.8, 0.8), run(100, 1, Mixmatch, 0.9, 0.9)]);
        assert!(
            apart.ends_with("nothing can be compared: no run has a supervised one of its seed and values."),
            "{apart}"
        );
        let elsewhere = told(vec![run(40, 0, Supervised, 0.8, 0.8), run(100, 0, Mixmatch, 0.9, 0.9)]);
        assert!(elsewhere.starts_with("Without a supervised run on the same labels"), "{elsewhere}");
    }

    #[test]
    fn validation_that_chose_the_values_too_decides_nothing() {
        let axes = ["lambda_u".to_owned()];
        let of = |seed: u64, algorithm, lambda_u, accuracy: f64| {
            let config = TrainConfig { labelled: Some(40), seed, algorithm, lambda_u, ..TrainConfig::default() };
            let mut run = of_config(config, &axes, accuracy + 0.001 * seed as f64, 0.0);
            (run.figures.test_accuracy, run.validation_images) = (None, Some(1000));
            run
        };
        let baseline = |seed| {
            let mut run = of(seed, Supervised, 3.0, 0.8);
            run.figures.validation_accuracy = Some(0.8);
            run
        };
        let with = |lambdas: &[(f64, f64)]| {
            let mixmatch = |seed| lambdas.iter().map(move |(lambda_u, accuracy)| (seed, *lambda_u, *accuracy));
            let mixmatch =
                (0..3).flat_map(mixmatch).map(|(seed, lambda_u, accuracy)| of(seed, Mixmatch, lambda_u, accuracy));
            Comparison::new((0..3).map(baseline).chain(mixmatch).collect(), axes.to_vec())
        };
        let grid = with(&[(3.0, 0.85), (10.0, 0.9), (30.0, 0.84)]);
        let [_, chosen, _] = grid.differences.as_slice() else { panic!("{grid:?}") };
        assert_eq!((chosen.chosen, chosen.wins, chosen.finding), (true, 3, Finding::Undecided));
        assert!(chosen.interval.unwrap()[0] > 0.0, "{chosen:?}");
        assert_eq!(
            grid.verdict,
            "With 40 labels and lambda_u 10.0 nothing is decided: MixMatch is 10.1 ± 0.1 points of validation accuracy ahead of its \
             supervised baseline over 3 seeds on 1000 validation images (which chose the epoch and these values, too), ahead in 3; \
             the choice among several values alone may do that, and test images would tell."
        );
        assert!(grid.markdown("m").contains("undecided"), "{grid:?}");
        // Whoever is behind although it was chosen is behind.
        let behind = with(&[(3.0, 0.7), (10.0, 0.6)]);
        assert_eq!(behind.differences[0].finding, Finding::Behind);
        assert!(behind.verdict.contains("(which chose the epoch and these values, too)"), "{}", behind.verdict);
        // One value was not chosen, and test images chose nothing.
        assert!(
            with(&[(10.0, 0.9)])
                .verdict
                .ends_with("(which chose the epoch, too), ahead in 3: the unlabelled images helped.")
        );
        let mut tested = grid.runs.clone();
        for run in &mut tested {
            (run.figures.test_accuracy, run.test_images) = (run.figures.validation_accuracy, Some(1000));
        }
        let tested = Comparison::new(tested, axes.to_vec());
        assert!(tested.verdict.ends_with("(ahead in 3): the unlabelled images helped."), "{}", tested.verdict);
    }

    #[test]
    fn chosen_values_without_a_pair_are_told_beside_those_that_have_one() {
        let axes = ["learning_rate".to_owned()];
        let of = |algorithm, learning_rate, validation| {
            let config = TrainConfig { labelled: Some(40), algorithm, learning_rate, ..TrainConfig::default() };
            of_config(config, &axes, validation, 0.8)
        };
        // The baseline of the better rate did not succeed.
        let runs = vec![of(Mixmatch, 0.001, 0.9), of(Supervised, 0.002, 0.7), of(Mixmatch, 0.002, 0.8)];
        let comparison = Comparison::new(runs, axes.to_vec());
        assert_eq!(comparison.differences.len(), 1);
        assert!(
            comparison.verdict.contains("With 40 labels the values that validation chose"),
            "{}",
            comparison.verdict
        );
    }

    #[test]
    fn a_data_set_without_a_test_split_is_judged_on_validation() {
        let mut runs = vec![run(40, 0, Supervised, 0.7, 0.0), run(40, 0, Mixmatch, 0.8, 0.0)];
        runs.iter_mut().for_each(|run| run.figures.test_accuracy = None);
        let comparison = Comparison::new(runs, Vec::new());
        assert!(comparison.verdict.contains("10.0 points of validation accuracy ahead"), "{}", comparison.verdict);
        assert_eq!(comparison.differences[0].wins, 1);
    }
}
