//! A comparison as CSV, for spreadsheets and programs.

use super::by_group::GroupDifference;
use super::comparison::{Comparison, Spread};
use super::comparison_text::labels;
use super::difference::Difference;
use super::naming::plain;
use super::rows::Row;

impl Comparison {
    /// One line for each line of the table, the difference to the baseline beside; then one for each group of the test images
    /// that was compared, with the columns `group` and `group_value` filled. The verdict is in the other forms.
    ///
    /// A name or value (of a class, a column, a group) that a spreadsheet would compute has an apostrophe before it: one that begins
    /// with `=`, `+`, `-`, `@`, a tab or a line's end and is no number, as OWASP advises against CSV injection.
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
        // At the end, as they came later: the others stay where programs look for them.
        head.extend(["difference_validation_low", "difference_validation_high"].map(str::to_owned));
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
        let value = |axis: &String| row.values.get(axis).map(|value| text(plain(value))).unwrap_or_default();
        cells.extend(self.axes.iter().map(value));
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
                let tested = difference.test_accuracy.is_some();
                cells.extend(ends(difference.interval.filter(|_| tested)));
                cells.extend([difference.wins.to_string(), difference.losses.to_string()]);
                cells.push(difference.finding.as_str().to_owned());
                cells.extend(ends(difference.interval.filter(|_| !tested)));
            }
            None => cells.extend(std::iter::repeat_n(String::new(), 12)),
        }
        cells
    }

    fn group_record(&self, difference: &Difference, group: &GroupDifference) -> Vec<String> {
        let none = |count| std::iter::repeat_n(String::new(), count);
        let mut cells = vec![labels(difference.labelled), difference.algorithm.as_str().to_owned()];
        let value = |axis: &String| difference.values.get(axis).map(|value| text(plain(value))).unwrap_or_default();
        cells.extend(self.axes.iter().map(value));
        cells.extend([text(group.attribute.clone()), text(group.value.clone()), group.images.to_string()]);
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
        cells.extend(none(2));
        cells
    }
}

impl Difference {
    fn is_of(&self, row: &Row) -> bool {
        (self.labelled, self.algorithm, &self.values) == (row.labelled, row.algorithm, &row.values)
    }
}

/// What somebody wrote, for a cell: nothing that a spreadsheet computes.
fn text(written: String) -> String {
    let is_number = written.trim().parse::<f64>().is_ok_and(f64::is_finite);
    if written.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) && !is_number {
        format!("'{written}")
    } else {
        written
    }
}

/// Mean and deviation for a program to read; empty where there is none.
fn numbers(spread: Option<Spread>) -> [String; 2] {
    let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    [text(spread.map(|spread| spread.mean)), text(spread.and_then(|spread| spread.sd))]
}

fn ends(interval: Option<[f64; 2]>) -> [String; 2] {
    interval.map_or_else(Default::default, |ends| ends.map(|end| end.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::comparison::tests::{example, of_config};
    use super::super::comparison::{ComparedRun, Comparison};
    use crate::train::config::{AlgorithmName, TrainConfig};
    use crate::train::event::GroupAccuracy;

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
    fn wins_and_losses_have_columns_of_their_own() {
        let Comparison { mut runs, axes, .. } = example();
        // Ahead in two seeds and behind in one.
        let third = runs.iter_mut().find(|run| run.state == "failed").unwrap();
        (third.state, third.error, third.figures.test_accuracy) = ("succeeded", None, Some(0.5));
        let text = Comparison::new(runs, axes).csv().unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().unwrap().clone();
        let line = reader.records().map(Result::unwrap).nth(1).unwrap();
        let cell = |name: &str| &line[head.iter().position(|column| column == name).unwrap()];
        assert_eq!(["wins", "losses"].map(cell), ["2", "1"], "{text}");
    }

    #[test]
    fn each_value_of_a_grid_has_its_own_difference() {
        let axes = ["lambda_u".to_owned()];
        let of = |algorithm, lambda_u, test| {
            let config = TrainConfig { labelled: Some(40), algorithm, lambda_u, ..TrainConfig::default() };
            of_config(config, &axes, 0.9, test)
        };
        let (mixmatch, supervised) = (AlgorithmName::Mixmatch, AlgorithmName::Supervised);
        let runs = vec![of(supervised, 3.0, 0.8), of(mixmatch, 3.0, 0.9), of(mixmatch, 10.0, 0.6)];
        let text = Comparison::new(runs, axes.to_vec()).csv().unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().unwrap().clone();
        let at = |name: &str| head.iter().position(|column| column == name).unwrap();
        let (value, mean) = (at("lambda_u"), at("difference_test_mean"));
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        for (lambda_u, expected) in [(3.0, 0.1), (10.0, -0.2)] {
            let line = lines.iter().find(|line| line[value].parse() == Ok(lambda_u) && !line[mean].is_empty());
            let told = line.map(|line| line[mean].parse::<f64>().unwrap());
            assert!(told.is_some_and(|told| (told - expected).abs() < 1e-9), "{lambda_u}: {told:?} in {text}");
        }
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

    #[test]
    fn no_cell_of_a_name_is_one_that_a_spreadsheet_computes() {
        let Comparison { mut runs, axes, .. } = example();
        let values = ["=HYPERLINK(\"x\")", "-5 to 3", "@a", "\tb", "-inf", "-2.5", "+3", "60+", "a=b"];
        for run in &mut runs {
            let group = |value: &str| GroupAccuracy {
                attribute: "+age".to_owned(),
                value: value.to_owned(),
                images: 40,
                ..GroupAccuracy::default()
            };
            run.groups = values.map(group).to_vec();
            run.values.insert("positive_class".to_owned(), "=1+1".into());
        }
        let text = Comparison::new(runs, [axes, vec!["positive_class".to_owned()]].concat()).csv().unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let groups: Vec<_> = lines.iter().filter(|line| &line[3] == "'+age").map(|line| line[4].to_owned()).collect();
        let told = ["'=HYPERLINK(\"x\")", "'-5 to 3", "'@a", "'\tb", "'-inf", "-2.5", "+3", "60+", "a=b"];
        assert_eq!(groups, told, "{text}");
        assert!(lines.iter().all(|line| &line[2] == "'=1+1"), "{text}");
    }

    #[test]
    fn an_interval_of_validation_is_not_called_one_of_test() {
        let Comparison { mut runs, axes, .. } = example();
        let ends = |runs: &[ComparedRun]| {
            let text = Comparison::new(runs.to_vec(), axes.clone()).csv().unwrap();
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let head = reader.headers().unwrap().clone();
            let line = reader.records().map(Result::unwrap).nth(1).unwrap();
            ["test_low", "test_high", "validation_low", "validation_high"].map(|name| {
                let name = format!("difference_{name}");
                line[head.iter().position(|column| column == name).unwrap()].parse::<f64>().ok()
            })
        };
        let [low, high, none, neither] = ends(&runs);
        assert!(low < Some(0.105) && high > Some(0.105) && low.is_some(), "{low:?} {high:?}");
        assert_eq!([none, neither], [None, None]);
        // One of validation has some width: .10 and .11.
        for run in &mut runs {
            run.figures.test_accuracy = None;
            if (run.algorithm, run.seed) == (AlgorithmName::Mixmatch, 1) {
                run.figures.validation_accuracy = Some(0.93);
            }
        }
        let [none, neither, low, high] = ends(&runs);
        assert_eq!([none, neither], [None, None]);
        assert!(low < Some(0.105) && high > Some(0.105) && low.is_some(), "{low:?} {high:?}");
    }
}
