//! What the demo says in the end: two tables, and one sentence that holds whoever won.

use super::client::{Job, Test};

/// Columns of text, the first `left` of them flush left and the others flush right, two spaces between them.
fn columns(rows: &[Vec<String>], left: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn strings<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

/// The finished jobs, one a line.
pub fn table(jobs: &[&Job], labelled: u32) -> String {
    let mut rows = vec![strings([
        "algorithm",
        "labels",
        "best validation",
        "test accuracy",
        "95 % interval",
        "F1 macro",
        "seconds",
    ])];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    for job in jobs {
        let test = job.test.as_ref();
        rows.push(vec![
            job.algorithm.clone(),
            labelled.to_string(),
            or_dash(job.best.as_ref().map(|best| percent(best.validation_accuracy))),
            or_dash(test.map(|test| percent(test.accuracy))),
            or_dash(test.map(|test| {
                let [low, high] = test.accuracy_interval;
                format!("{:.1}–{:.1} %", low * 100.0, high * 100.0)
            })),
            or_dash(test.map(|test| format!("{:.3}", test.f1_macro))),
            or_dash(job.seconds().map(|seconds| format!("{seconds:.0}"))),
        ]);
    }
    columns(&rows, 1)
}

/// Compares the two runs in one sentence, and says whether chance alone could have made the difference.
pub fn verdict(supervised: &Test, mixmatch: &Test, labelled: u32) -> String {
    let gap = mixmatch.accuracy - supervised.accuracy;
    // Two shares over equally many images differ by so much in 19 of 20 cases where nothing is behind it.
    let spread = |test: &Test| test.accuracy * (1.0 - test.accuracy) / (test.images.max(1) as f64);
    let chance = 1.96 * (spread(supervised) + spread(mixmatch)).sqrt();
    let (points, noise) = (gap.abs() * 100.0, chance * 100.0);
    let shares = format!("{} against {}", percent(mixmatch.accuracy), percent(supervised.accuracy));
    let images = mixmatch.images;
    if gap.abs() <= chance {
        let order = match gap {
            gap if gap > 0.0 => format!("MixMatch is {points:.1} points ahead"),
            gap if gap < 0.0 => format!("MixMatch is {points:.1} points behind"),
            _ => "the two are level".to_owned(),
        };
        format!(
            "With the same {labelled} labels {order} ({shares}), but on {images} test images up to {noise:.1} points \
             may be chance: this run decides nothing."
        )
    } else if gap > 0.0 {
        format!(
            "With the same {labelled} labels MixMatch is {points:.1} points ahead ({shares} of {images} test images; \
             chance explains up to {noise:.1}); one seed decides nothing, a sweep over seeds does."
        )
    } else {
        format!(
            "With the same {labelled} labels MixMatch is {points:.1} points behind ({shares} of {images} test images; \
             chance explains up to {noise:.1}); a longer run (preset quick) or a smaller lambda_u is the first thing to \
             try; one seed decides nothing, a sweep over seeds does."
        )
    }
}

/// A freshly drawn image and what the model said of it.
#[derive(Clone, Debug)]
pub struct Guess {
    /// How it was sent.
    pub form: &'static str,
    /// What was drawn.
    pub drawn: &'static str,
    /// The model's answer, or what was wrong with the image.
    pub predicted: Result<(String, f64), String>,
}

impl Guess {
    /// Whether the answer is what was drawn.
    pub fn is_right(&self) -> bool {
        self.predicted.as_ref().is_ok_and(|(label, _)| label == self.drawn)
    }
}

/// The share of right answers.
pub fn accuracy(guesses: &[Guess]) -> f64 {
    guesses.iter().filter(|guess| guess.is_right()).count() as f64 / guesses.len().max(1) as f64
}

/// The guesses, one a line.
pub fn guesses(guesses: &[Guess]) -> String {
    let mut rows = vec![strings(["sent as", "drawn as", "predicted", "", "probability"])];
    for guess in guesses {
        let (predicted, probability) = match &guess.predicted {
            Ok((label, probability)) => (label.clone(), percent(*probability)),
            Err(problem) => (problem.clone(), "–".to_owned()),
        };
        let mark = if guess.is_right() { "right" } else { "wrong" };
        rows.push(vec![guess.form.to_owned(), guess.drawn.to_owned(), predicted, mark.to_owned(), probability]);
    }
    columns(&rows, 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::client::Epoch;

    fn test(accuracy: f64) -> Test {
        Test { images: 800, accuracy, accuracy_interval: [accuracy - 0.03, accuracy + 0.03], f1_macro: accuracy }
    }

    #[test]
    fn the_table_is_aligned() {
        let best = Some(Epoch { validation_accuracy: 0.8567, ..Epoch::default() });
        let job = Job { algorithm: "mixmatch".to_owned(), best, test: Some(test(0.85)), ..Job::default() };
        let bare = Job { algorithm: "supervised".to_owned(), ..Job::default() };
        let text = table(&[&bare, &job], 40);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("  F1 macro  "), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(
            lines[2].contains("85.7 %") && lines[2].contains("82.0–88.0 %") && lines[2].contains("0.850"),
            "{text}"
        );
        assert!(lines[1].contains('–'));
    }

    #[test]
    fn the_sentence_is_right_whoever_won() {
        let told = |supervised, mixmatch| verdict(&test(supervised), &test(mixmatch), 40);
        // As the job's page: a single seed proves nothing, however far apart the two are.
        let end = "; one seed decides nothing, a sweep over seeds does.";
        let (ahead, behind) = (told(0.7, 0.9), told(0.9, 0.7));
        assert!(ahead.contains("20.0 points ahead (90.0 % against 70.0 %") && ahead.ends_with(end), "{ahead}");
        assert!(behind.contains("20.0 points behind") && behind.ends_with(end), "{behind}");
        assert!(![ahead, behind].iter().any(|told| told.contains("helped") || told.contains("harm")));
        assert!(told(0.80, 0.81).contains("1.0 points ahead") && told(0.80, 0.81).contains("decides nothing"));
        assert!(told(0.81, 0.80).contains("1.0 points behind") && told(0.81, 0.80).contains("decides nothing"));
        assert!(told(0.8, 0.8).contains("level"));
        assert!(told(0.7, 0.7).ends_with('.') && told(0.7, 0.9).matches(". ").count() == 0, "one sentence");
    }

    #[test]
    fn guesses_are_counted_and_shown() {
        let guess = |predicted| Guess { form: "raw body", drawn: "mask", predicted };
        let all = [
            guess(Ok(("mask".to_owned(), 0.97))),
            guess(Ok(("no_mask".to_owned(), 0.6))),
            guess(Err("not an image".to_owned())),
            guess(Ok(("mask".to_owned(), 0.5))),
        ];
        assert_eq!(accuracy(&all), 0.5);
        let text = guesses(&all);
        assert!(
            text.contains("97.0 %") && text.contains("not an image") && text.matches("right").count() == 2,
            "{text}"
        );
        assert_eq!(accuracy(&[]), 0.0);
    }
}
