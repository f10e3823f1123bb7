//! A comparison as Markdown, for people.

use std::fmt::Write;

use serde_json::Value;

use super::comparison::{ComparedRun, Comparison, Spread};
use super::difference::Difference;
use super::naming::{self, escaped, named, plain, title};
use super::rows::Row;

/// A cell without a figure.
const NONE: &str = "–";

impl Comparison {
    /// The table, the differences, the verdict, and every run that has no figures.
    pub fn markdown(&self, heading: &str) -> String {
        let mut text = format!("# {}\n\n", escaped(heading));
        let head = ["labels", "algorithm"].map(str::to_owned).into_iter().chain(self.axes.clone());
        let figures = ["seeds", "validation %", "test %", "test F1 macro", "best epoch", "seconds"];
        table(&mut text, head.chain(figures.map(str::to_owned)).collect(), self.rows.iter().map(|row| self.line(row)));
        if self.rows.iter().any(|row| row.n > 1) {
            text.push_str("\nMean ± sample standard deviation over seeds.");
            text.push('\n');
        }
        if self.rows.iter().any(|row| row.marked) {
            text.push_str("\n\\* chosen by validation accuracy.\n");
        }
        if !self.differences.is_empty() {
            let against = if self.pretrained_alike() {
                "supervised training after the same pretraining"
            } else {
                "the supervised baseline"
            };
            let _ = writeln!(text, "\nAgainst {against}, on the same labels and seeds, in points of accuracy:\n");
            let head = ["labels", "algorithm"].map(str::to_owned).into_iter().chain(self.axes.clone());
            let figures = ["seeds", "validation", "test", "95 % interval", "ahead in", "finding"];
            let lines = self.differences.iter().map(|difference| self.gap(difference));
            table(&mut text, head.chain(figures.map(str::to_owned)).collect(), lines);
            self.groups(&mut text);
        }
        let _ = writeln!(text, "\n{}", escaped(&self.verdict));
        let missing: Vec<&ComparedRun> = self.runs.iter().filter(|run| !run.succeeded()).collect();
        if !missing.is_empty() {
            text.push_str("\nNot in the figures:\n\n");
            for run in missing {
                let reason = run.error.as_ref().map_or(String::new(), |error| format!(": {}", escaped(error)));
                let _ = writeln!(text, "- {} {}{reason} ({})", escaped(&run.name()), run.state, run.id);
            }
        }
        text
    }

    /// Whether all differences are to runs that were pretrained too.
    fn pretrained_alike(&self) -> bool {
        self.differences.iter().all(|difference| difference.pretrained_alike)
    }

    fn line(&self, row: &Row) -> Vec<String> {
        let mark = if row.marked { " \\*" } else { "" };
        let mut cells = vec![labels(row.labelled), format!("{}{mark}", title(row.algorithm))];
        cells.extend(self.axes.iter().map(|axis| value(row.values.get(axis))));
        cells.push(if row.n == row.jobs { row.n.to_string() } else { format!("{} of {}", row.n, row.jobs) });
        cells.extend([percent(row.validation_accuracy), percent(row.test_accuracy)]);
        cells.extend([spread(row.test_f1_macro, 1.0, 3), spread(row.best_epoch, 1.0, 1), spread(row.seconds, 1.0, 0)]);
        cells
    }

    /// Who gains, of the values that validation chose: a line for each group.
    fn groups(&self, text: &mut String) {
        let chosen = self.differences.iter().filter(|difference| difference.chosen);
        let lines: Vec<Vec<String>> = chosen
            .flat_map(|difference| {
                difference.groups.iter().map(|group| {
                    let mut cells = vec![labels(difference.labelled), title(difference.algorithm).to_owned()];
                    cells.extend([escaped(&format!("{} {}", group.attribute, group.value)), group.images.to_string()]);
                    cells.extend([percent(Some(group.baseline_accuracy)), signed(Some(group.test_accuracy))]);
                    cells.extend([interval(group.interval), group.finding.as_str().to_owned()]);
                    cells
                })
            })
            .collect();
        if lines.is_empty() {
            return;
        }
        text.push_str("\nBy group of the test images, in points of accuracy:\n\n");
        let head = ["labels", "algorithm", "group", "images", "supervised %", "difference", "95 % interval", "finding"];
        table(text, head.map(str::to_owned).into(), lines.into_iter());
    }

    fn gap(&self, difference: &Difference) -> Vec<String> {
        let mut cells = vec![labels(difference.labelled), title(difference.algorithm).to_owned()];
        cells.extend(self.axes.iter().map(|axis| value(difference.values.get(axis))));
        cells.push(difference.pairs.to_string());
        cells.extend([signed(difference.validation_accuracy), signed(difference.test_accuracy)]);
        cells.push(interval(difference.interval));
        cells.push(format!("{} of {}", difference.wins, difference.pairs));
        cells.push(difference.finding.as_str().to_owned());
        cells
    }
}

impl ComparedRun {
    /// `MixMatch, 40 labels, lambda_u 3, seed 1`.
    pub fn name(&self) -> String {
        let values: String = named(&self.values).into_iter().map(|value| format!(", {value}")).collect();
        format!("{}, {}{values}, seed {}", title(self.algorithm), naming::labels(self.labelled), self.seed)
    }
}

/// A number of labels, in a table.
pub(super) fn labels(labelled: Option<u32>) -> String {
    labelled.map_or_else(|| "all".to_owned(), |labels| labels.to_string())
}

fn value(value: Option<&Value>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| escaped(&plain(value)))
}

fn spread(spread: Option<Spread>, scale: f64, digits: usize) -> String {
    match spread {
        None => NONE.to_owned(),
        Some(Spread { mean, sd: None }) => format!("{:.digits$}", mean * scale),
        Some(Spread { mean, sd: Some(sd) }) => format!("{:.digits$} ± {:.digits$}", mean * scale, sd * scale),
    }
}

fn percent(share: Option<Spread>) -> String {
    spread(share, 100.0, 1)
}

fn interval(ends: Option<[f64; 2]>) -> String {
    ends.map_or_else(|| NONE.to_owned(), |[low, high]| format!("{} to {}", points(low), points(high)))
}

/// A mean difference in points, with its sign, and its spread.
fn signed(gap: Option<Spread>) -> String {
    let Some(gap) = gap else { return NONE.to_owned() };
    let sd = gap.sd.map_or_else(String::new, |sd| format!(" ± {:.1}", sd * 100.0));
    format!("{}{sd}", points(gap.mean))
}

/// A difference of two shares in points of a hundred, with its sign; what rounds to nothing has none.
fn points(difference: f64) -> String {
    let text = format!("{:+.1}", difference * 100.0);
    match text.trim_start_matches(['+', '-']) {
        "0.0" => "0.0".to_owned(),
        _ => text,
    }
}

/// A Markdown table with aligned columns, readable as plain text too; the cells are Markdown.
fn table(text: &mut String, head: Vec<String>, lines: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(lines).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for (at, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        if at == 0 {
            let rule = widths.iter().map(|&width| "-".repeat(width)).collect::<Vec<_>>().join(" | ");
            let _ = writeln!(text, "| {rule} |");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::comparison::tests::{example, of_config, run};
    use super::super::comparison::{ComparedRun, Comparison};
    use crate::train::config::{AlgorithmName, TrainConfig};
    use crate::train::event::GroupAccuracy;

    #[test]
    fn the_markdown_has_every_line_and_names_what_is_missing() {
        let text = example().markdown("Sweep on faces");
        for part in [
            "# Sweep on faces\n",
            "| 40     | supervised | 3      | 82.0 ± 2.0   | 79.0 ± 1.0 |",
            "| 40     | MixMatch   | 2 of 3 | 91.0 ± 1.4   |",
            "| 100    | MixMatch   | 1      | 95.0         | 94.0       |",
            "+10.5 ± 0.7",
            "2 of 2",
            "nothing is decided",
            "- MixMatch, 40 labels, seed 2 failed: collapsed: one class alone (",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn a_difference_that_rounds_to_nothing_has_no_sign() {
        use crate::report::Spread;
        let told: Vec<String> = [-0.0003, 0.0003, -0.0, -0.0007, 0.0105].map(super::points).to_vec();
        assert_eq!(told, ["0.0", "0.0", "0.0", "-0.1", "+1.1"]);
        assert_eq!(super::interval(Some([-0.0002, 0.02])), "0.0 to +2.0");
        assert_eq!(super::signed(Some(Spread { mean: -0.0003, sd: Some(0.01) })), "0.0 ± 1.0");
    }

    #[test]
    fn a_mark_is_explained_with_one_seed_too() {
        let axes = ["lambda_u".to_owned()];
        let of = |lambda_u: f64, accuracy| {
            of_config(TrainConfig { lambda_u, ..TrainConfig::default() }, &axes, accuracy, accuracy)
        };
        let text = Comparison::new(vec![of(3.0, 0.9), of(10.0, 0.8)], axes.to_vec()).markdown("m");
        assert!(text.contains("MixMatch \\* |") && text.contains("\n\\* chosen by validation accuracy."), "{text}");
        assert!(!example().markdown("m").contains("chosen by validation"), "nothing was chosen from");
        // The report of one job of the grid.
        let one = Comparison::new(vec![of(10.0, 0.8)], axes.to_vec()).markdown("m");
        assert!(one.contains("10.0") && !one.contains("chosen by validation"), "{one}");
    }

    #[test]
    fn the_same_pretraining_is_spoken_of_only_where_all_are_measured_against_it() {
        let of = |labelled, algorithm, pretrain_epochs| {
            let labelled = Some(labelled);
            let config = TrainConfig { labelled, algorithm, pretrain_epochs, ..TrainConfig::default() };
            of_config(config, &[], 0.9, 0.9)
        };
        let (mixmatch, supervised) = (AlgorithmName::Mixmatch, AlgorithmName::Supervised);
        let told = |runs: &[ComparedRun]| {
            let comparison = Comparison::new(runs.to_vec(), Vec::new());
            let alike: Vec<bool> = comparison.differences.iter().map(|one| one.pretrained_alike).collect();
            let text = comparison.markdown("m");
            (alike, text.lines().find(|line| line.starts_with("Against ")).unwrap_or_default().to_owned())
        };
        let mut runs = vec![of(40, mixmatch, 100), of(40, supervised, 100)];
        let same = "Against supervised training after the same pretraining, on the same labels and seeds, in points of accuracy:";
        assert_eq!(told(&runs), (vec![true], same.to_owned()));
        runs.extend([of(100, mixmatch, 100), of(100, supervised, 0)]);
        let some = "Against the supervised baseline, on the same labels and seeds, in points of accuracy:";
        assert_eq!(told(&runs), (vec![true, false], some.to_owned()));
    }

    #[test]
    fn a_seed_that_is_level_is_not_one_that_is_ahead() {
        let (mixmatch, supervised) = (AlgorithmName::Mixmatch, AlgorithmName::Supervised);
        let pair = |(seed, test)| [run(40, seed, mixmatch, 0.9, test), run(40, seed, supervised, 0.9, 0.8)];
        let runs = [(0, 0.9), (1, 0.8), (2, 0.7)].map(pair).concat();
        let text = Comparison::new(runs, Vec::new()).markdown("m");
        assert!(text.contains("| 1 of 3 "), "{text}");
    }

    #[test]
    fn groups_are_told_of_the_values_that_validation_chose_alone() {
        let axes = ["lambda_u".to_owned()];
        let of = |algorithm, lambda_u, validation, in_group| {
            let config = TrainConfig { labelled: Some(40), algorithm, lambda_u, ..TrainConfig::default() };
            let (attribute, value) = ("age".to_owned(), "60+".to_owned());
            let group = GroupAccuracy { attribute, value, images: 40, accuracy: in_group, ..GroupAccuracy::default() };
            ComparedRun { groups: vec![group], ..of_config(config, &axes, validation, 0.9) }
        };
        let (mixmatch, supervised) = (AlgorithmName::Mixmatch, AlgorithmName::Supervised);
        let runs = vec![of(supervised, 3.0, 0.7, 0.5), of(mixmatch, 3.0, 0.8, 0.6), of(mixmatch, 10.0, 0.9, 0.8)];
        let text = Comparison::new(runs, axes.to_vec()).markdown("m");
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("| age 60+ ")).collect();
        assert!(lines.len() == 1 && lines[0].contains("+30.0"), "{text}");
    }

    #[test]
    fn a_bar_or_a_line_break_in_a_name_breaks_no_table() {
        let axes = ["positive_class".to_owned()];
        let of = |algorithm, class: &str| {
            let positive_class = Some(class.to_owned());
            let config = TrainConfig { labelled: Some(40), algorithm, positive_class, ..TrainConfig::default() };
            let group = GroupAccuracy {
                attribute: "place".to_owned(),
                value: "left\n|".to_owned(),
                images: 40,
                ..GroupAccuracy::default()
            };
            ComparedRun { groups: vec![group], ..of_config(config, &axes, 0.9, 0.9) }
        };
        let both = [AlgorithmName::Mixmatch, AlgorithmName::Supervised];
        let runs = both.iter().flat_map(|&algorithm| [of(algorithm, "ma|sk\n<b>"), of(algorithm, "none")]);
        let text = Comparison::new(runs.collect(), axes.to_vec()).markdown("m");
        let tables: Vec<&str> = text.split("\n\n").filter(|part| part.starts_with('|')).collect();
        assert_eq!(tables.len(), 3, "{text}");
        for table in tables {
            let bars = |line: &str| line.replace("\\|", "").matches('|').count();
            let head = table.lines().next().map(bars);
            assert!(table.lines().all(|line| line.starts_with('|') && Some(bars(line)) == head), "{table}");
        }
        assert!(text.contains("MixMatch \\* ") && text.contains("| ma\\|sk \\<b\\> "), "{text}");
        assert!(text.contains("| place left \\| "), "{text}");
    }

    #[test]
    fn names_in_the_sentences_are_no_markdown_and_stay_plain_outside_it() {
        let axes = ["positive_class".to_owned()];
        let of = |seed, algorithm, accuracy| {
            let positive_class = Some("*a*\n\n# b".to_owned());
            let config = TrainConfig { labelled: Some(40), seed, algorithm, positive_class, ..TrainConfig::default() };
            ComparedRun { test_images: Some(900), ..of_config(config, &axes, accuracy, accuracy) }
        };
        let gone = ComparedRun {
            state: "failed",
            error: Some("collapsed: it answers \"<b>\"\n# x".to_owned()),
            ..of(3, AlgorithmName::Mixmatch, 0.0)
        };
        let pairs =
            (0..3).flat_map(|seed| [of(seed, AlgorithmName::Supervised, 0.8), of(seed, AlgorithmName::Mixmatch, 0.9)]);
        let comparison = Comparison::new(pairs.chain([gone]).collect(), axes.to_vec());
        assert!(comparison.verdict.starts_with("With 40 labels and positive_class *a* # b MixMatch"), "{comparison:?}");
        let text = comparison.markdown("Sweep on <faces>\n# all");
        assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 1, "{text}");
        for part in [
            "# Sweep on \\<faces\\> \\# all\n",
            "With 40 labels and positive_class \\*a\\* \\# b MixMatch",
            "- MixMatch, 40 labels, positive_class \\*a\\* \\# b, seed 3 failed: collapsed: it answers \"\\<b\\>\" \\# x (",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }
}
