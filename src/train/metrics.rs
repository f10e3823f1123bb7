//! Figures of a classifier from true and answered classes. Pure functions over a confusion matrix.

/// Counts of (true class, answered class).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

impl Confusion {
    /// Counts the pairs; `truth` and `answers` are class indices below `classes`.
    pub fn new(classes: usize, truth: &[usize], answers: &[usize]) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (&t, &a) in truth.iter().zip(answers) {
            counts[t][a] += 1;
        }
        Self { counts }
    }

    /// Row: true class, column: answered class.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// Images counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Right answers.
    pub fn right(&self) -> u64 {
        self.counts.iter().enumerate().map(|(class, row)| row[class]).sum()
    }

    /// Share of right answers; 0 without images.
    pub fn accuracy(&self) -> f64 {
        ratio(self.right(), self.total())
    }

    /// Images of each true class.
    pub fn true_counts(&self) -> Vec<u64> {
        self.counts.iter().map(|row| row.iter().sum()).collect()
    }

    /// Answers of each class.
    pub fn answer_counts(&self) -> Vec<u64> {
        (0..self.counts.len()).map(|class| self.counts.iter().map(|row| row[class]).sum()).collect()
    }

    /// 2·TP / (2·TP + FP + FN) of `class`; 0 where there is neither a true nor an answered one.
    pub fn f1(&self, class: usize) -> f64 {
        let true_positive = self.counts[class][class];
        ratio(2 * true_positive, self.true_counts()[class] + self.answer_counts()[class])
    }

    /// TP / (TP + FP) of `class`: how many of its answers are right; 0 without such answers.
    pub fn precision(&self, class: usize) -> f64 {
        ratio(self.counts[class][class], self.answer_counts()[class])
    }

    /// TP / (TP + FN) of `class`: how many of its images are found; 0 without such images.
    pub fn recall(&self, class: usize) -> f64 {
        ratio(self.counts[class][class], self.true_counts()[class])
    }

    /// Unweighted mean of the classes' F1.
    pub fn f1_macro(&self) -> f64 {
        let classes = self.counts.len();
        (0..classes).map(|class| self.f1(class)).sum::<f64>() / classes.max(1) as f64
    }

    /// Each class's share of the answers.
    pub fn answer_shares(&self) -> Vec<f64> {
        self.answer_counts().into_iter().map(|answers| ratio(answers, self.total())).collect()
    }

    /// Mean recall over the classes that have images.
    pub fn balanced_accuracy(&self) -> f64 {
        let recalls: Vec<f64> = self
            .counts
            .iter()
            .enumerate()
            .map(|(class, row)| (row[class], row.iter().sum::<u64>()))
            .filter(|&(_, total)| total > 0)
            .map(|(right, total)| ratio(right, total))
            .collect();
        recalls.iter().sum::<f64>() / recalls.len().max(1) as f64
    }

    /// The class that swallowed another: one with at least a twentieth of the images gets less than a tenth
    /// of its due answers. Gives the most answered class, its share of answers and its share of images.
    pub fn collapse(&self) -> Option<(usize, f64, f64)> {
        let (truth, answers, total) = (self.true_counts(), self.answer_counts(), self.total());
        let starved = truth.iter().zip(&answers).any(|(&t, &a)| t > 1 && starves(ratio(t, total), ratio(a, total)));
        let most = (0..answers.len()).max_by_key(|&class| answers[class])?;
        starved.then(|| (most, ratio(answers[most], total), ratio(truth[most], total)))
    }
}

/// Whether a class to which the share `due` belongs and that gets `got` is being swallowed by another.
pub fn starves(due: f64, got: f64) -> bool {
    due >= 0.05 && got < due / 10.0
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_small_matrix() {
        // truth a: 3 right, 1 as b; truth b: 2 as a, 4 right.
        let truth = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1];
        let answers = [0, 0, 0, 1, 0, 0, 1, 1, 1, 1];
        let confusion = Confusion::new(2, &truth, &answers);
        assert_eq!(confusion.counts(), [vec![3, 1], vec![2, 4]]);
        assert!((confusion.accuracy() - 0.7).abs() < 1e-12);
        assert!((confusion.f1(0) - 6.0 / 9.0).abs() < 1e-12);
        assert!((confusion.precision(0) - 0.6).abs() < 1e-12 && (confusion.recall(0) - 0.75).abs() < 1e-12);
        assert!((confusion.f1_macro() - (6.0 / 9.0 + 8.0 / 11.0) / 2.0).abs() < 1e-12);
        assert!((confusion.balanced_accuracy() - (0.75 + 4.0 / 6.0) / 2.0).abs() < 1e-12);
        assert_eq!(confusion.collapse(), None);
    }

    #[test]
    fn one_class_for_everything_is_a_collapse_but_a_rare_class_is_not() {
        let truth = [[0; 50], [1; 50]].concat();
        let (class, answered, share) = Confusion::new(2, &truth, &[1; 100]).collapse().unwrap();
        assert_eq!((class, answered, share), (1, 1.0, 0.5));
        let rare: Vec<usize> = (0..100).map(|i| usize::from(i >= 3)).collect();
        assert_eq!(Confusion::new(2, &rare, &[1; 100]).collapse(), None);
    }
}
