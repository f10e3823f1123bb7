//! A comparison as Markdown for people and as CSV for spreadsheets.

use std::fmt::Write;

use super::by_group::GroupDifference;
use super::comparison::{ComparedRun, Comparison, Row, Spread};
use super::verdict::{Difference, Finding, plain, title};

/// A cell without a figure.
const NONE: &str = "–";

impl Comparison {
    /// The table, the differences, the verdict, and every run that has no figures.
    pub fn markdown(&self, heading: &str) -> String {
        let mut text = format!("# {heading}\n\n");
        let head = ["labels", "algorithm"].map(str::to_owned).into_iter().chain(self.axes.clone());
        let figures = ["seeds", "validation %", "test %", "test F1 macro", "best epoch", "seconds"];
        table(&mut text, head.chain(figures.map(str::to_owned)).collect(), self.rows.iter().map(|row| self.line(row)));
        if self.rows.iter().any(|row| row.n > 1) {
            text.push_str("\nMean ± sample standard deviation over seeds.");
            text.push('\n');
        }
        if self.rows.iter().any(|row| self.is_marked(row)) {
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
        let _ = writeln!(text, "\n{}", self.verdict);
        let missing: Vec<&ComparedRun> = self.runs.iter().filter(|run| !run.succeeded()).collect();
        if !missing.is_empty() {
            text.push_str("\nNot in the figures:\n\n");
            for run in missing {
                let reason = run.error.as_ref().map_or(String::new(), |error| format!(": {}", one_line(error)));
                let _ = writeln!(text, "- {} {}{reason} ({})", run.name(), run.state, run.id);
            }
        }
        text
    }

    /// Whether all differences are to runs that were pretrained too.
    fn pretrained_alike(&self) -> bool {
        self.differences.iter().all(|difference| difference.pretrained_alike)
    }

    /// One line for each line of the table, the difference to the baseline beside; then one for each group of the test images
    /// that was compared, with the columns `group` and `group_value` filled. The verdict is in the other forms.
    ///
    /// # Errors
    /// The writer's, which there is no known cause for.
    pub fn csv(&self) -> Result<String, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut head: Vec<String> = ["labelled", "algorithm"].map(str::to_owned).into();
        head.extend(self.axes.iter().cloned());
        head.extend(["group", "group_value", "group_images", "jobs", "n"].map(str::to_owned));
        for figure in ["validation_accuracy", "test_accuracy", "test_f1_macro", "best_epoch", "seconds"] {
            head.extend([format!("{figure}_mean"), format!("{figure}_sd")]);
        }
        head.extend(["chosen", "difference_pairs"].map(str::to_owned));
        for figure in ["difference_validation", "difference_test"] {
            head.extend([format!("{figure}_mean"), format!("{figure}_sd")]);
        }
        head.extend(["difference_test_low", "difference_test_high", "wins", "losses", "finding"].map(str::to_owned));
        writer.write_record(&head)?;
        for row in &self.rows {
            writer.write_record(self.record(row))?;
        }
        for difference in &self.differences {
            for group in &difference.groups {
                writer.write_record(self.group_record(difference, group))?;
            }
        }
        let bytes = writer.into_inner().map_err(|error| error.into_error())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn record(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![labels(row.labelled), row.algorithm.as_str().to_owned()];
        cells.extend(self.axes.iter().map(|axis| row.values.get(axis).map(plain).unwrap_or_default()));
        cells.extend([String::new(), String::new(), String::new(), row.jobs.to_string(), row.n.to_string()]);
        for spread in [row.validation_accuracy, row.test_accuracy, row.test_f1_macro, row.best_epoch, row.seconds] {
            cells.extend(numbers(spread));
        }
        cells.push(row.chosen.to_string());
        match self.differences.iter().find(|difference| difference.is_of(row)) {
            Some(difference) => {
                cells.push(difference.pairs.to_string());
                cells.extend(numbers(difference.validation_accuracy));
                cells.extend(numbers(difference.test_accuracy));
                cells.extend(ends(difference.interval));
                cells.extend([difference.wins.to_string(), difference.losses.to_string()]);
                cells.push(difference.finding.as_str().to_owned());
            }
            None => cells.extend(std::iter::repeat_n(String::new(), 10)),
        }
        cells
    }

    fn group_record(&self, difference: &Difference, group: &GroupDifference) -> Vec<String> {
        let none = |count| std::iter::repeat_n(String::new(), count);
        let mut cells = vec![labels(difference.labelled), difference.algorithm.as_str().to_owned()];
        cells.extend(self.axes.iter().map(|axis| difference.values.get(axis).map(plain).unwrap_or_default()));
        cells.extend([group.attribute.clone(), group.value.clone(), group.images.to_string()]);
        // Jobs, n and validation; then what the algorithm reached on these images: the baseline and what it is apart from that.
        cells.extend(none(4));
        let reached = Spread { mean: group.baseline_accuracy.mean + group.test_accuracy.mean, sd: None };
        cells.extend(numbers(Some(reached)));
        cells.extend(none(6));
        cells.extend([difference.chosen.to_string(), difference.pairs.to_string()]);
        cells.extend(none(2));
        cells.extend(numbers(Some(group.test_accuracy)));
        cells.extend(ends(group.interval));
        cells.extend(none(2));
        cells.push(group.finding.as_str().to_owned());
        cells
    }

    /// Whether a row is the one that validation chose of several.
    fn is_marked(&self, row: &Row) -> bool {
        let rivals =
            self.rows.iter().filter(|other| (other.labelled, other.algorithm) == (row.labelled, row.algorithm));
        row.chosen && !self.told_apart && rivals.count() > 1
    }

    fn line(&self, row: &Row) -> Vec<String> {
        let mark = if self.is_marked(row) { " \\*" } else { "" };
        let mut cells = vec![labels(row.labelled), format!("{}{mark}", title(row.algorithm))];
        cells.extend(self.axes.iter().map(|axis| row.values.get(axis).map_or(NONE.to_owned(), plain)));
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
                    cells.extend([
                        one_line(&format!("{} {}", group.attribute, group.value)).replace('|', "\\|"),
                        group.images.to_string(),
                    ]);
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
        cells.extend(self.axes.iter().map(|axis| difference.values.get(axis).map_or(NONE.to_owned(), plain)));
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
        let values: String = self.values.iter().map(|(name, value)| format!(", {name} {}", plain(value))).collect();
        let labels = self.labelled.map_or_else(|| "all labels".to_owned(), |labels| format!("{labels} labels"));
        format!("{}, {labels}{values}, seed {}", title(self.algorithm), self.seed)
    }
}

impl Difference {
    fn is_of(&self, row: &Row) -> bool {
        (self.labelled, self.algorithm, &self.values) == (row.labelled, row.algorithm, &row.values)
    }
}

impl Finding {
    fn as_str(self) -> &'static str {
        match self {
            Finding::Ahead => "ahead",
            Finding::Behind => "behind",
            Finding::Undecided => "undecided",
        }
    }
}

fn labels(labelled: Option<u32>) -> String {
    labelled.map_or_else(|| "all".to_owned(), |labels| labels.to_string())
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
    ends.map_or_else(|| NONE.to_owned(), |[low, high]| format!("{:+.1} to {:+.1}", low * 100.0, high * 100.0))
}

fn signed(gap: Option<Spread>) -> String {
    let sign = gap.map_or("", |gap| if gap.mean > 0.0 { "+" } else { "" });
    format!("{sign}{}", percent(gap))
}

/// Mean and deviation for a program to read; empty where there is none.
fn numbers(spread: Option<Spread>) -> [String; 2] {
    let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    [text(spread.map(|spread| spread.mean)), text(spread.and_then(|spread| spread.sd))]
}

fn ends(interval: Option<[f64; 2]>) -> [String; 2] {
    interval.map_or_else(Default::default, |ends| ends.map(|end| end.to_string()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A Markdown table with aligned columns, readable as plain text too.
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
    use super::super::comparison::Comparison;
    use super::super::comparison::tests::{example, of_config};
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
    fn the_csv_has_a_cell_for_each_column() {
        let text = example().csv().unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let column = |name: &str, reader: &mut csv::Reader<&[u8]>| {
            reader.headers().unwrap().iter().position(|head| head == name).unwrap_or_else(|| panic!("{name}"))
        };
        let (sd, n) = (column("test_accuracy_sd", &mut reader), column("n", &mut reader));
        let finding = column("finding", &mut reader);
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 3);
        assert!((records[0][sd].parse::<f64>().unwrap() - 0.01).abs() < 1e-9, "{text}");
        assert_eq!((&records[2][sd], &records[1][n], &records[1][finding]), ("", "2", "undecided"));
        let (low, high) = (column("difference_test_low", &mut reader), column("difference_test_high", &mut reader));
        let end = |at: usize| records[1][at].parse::<f64>().unwrap();
        assert!(end(low) < 0.105 && 0.105 < end(high), "{text}");
    }

    #[test]
    fn the_csv_has_a_line_for_each_group() {
        let Comparison { mut runs, axes, .. } = example();
        for run in &mut runs {
            let accuracy = if run.algorithm == AlgorithmName::Supervised { 0.5 } else { 0.7 };
            let (attribute, value) = ("age".to_owned(), "60+".to_owned());
            run.groups = vec![GroupAccuracy { attribute, value, images: 40, accuracy, ..GroupAccuracy::default() }];
        }
        let text = Comparison::new(runs, axes).csv().unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let line = lines.iter().find(|line| &line[2] == "age").expect("the group's line");
        let cell = |name: &str| &line[head.iter().position(|column| column == name).unwrap()];
        assert_eq!(
            ["labelled", "algorithm", "group_value", "group_images", "n"].map(cell),
            ["40", "mixmatch", "60+", "40", ""]
        );
        let near = |name: &str, expected: f64| (cell(name).parse::<f64>().unwrap() - expected).abs() < 1e-9;
        assert!(
            near("test_accuracy_mean", 0.7) && near("difference_test_mean", 0.2) && cell("wins").is_empty(),
            "{text}"
        );
    }
}
