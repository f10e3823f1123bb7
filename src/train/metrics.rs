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

    /// Of counts as [`Self::counts`] has them, of `classes` classes; nothing of others, such as an older build's figures without any.
    pub fn of_counts(counts: &[Vec<u64>], classes: usize) -> Option<Self> {
        let fits = counts.len() == classes && counts.iter().all(|row| row.len() == classes);
        fits.then(|| Self { counts: counts.to_vec() })
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

    /// Unweighted mean of the F1 of the classes that have images or answers, as scikit-learn's: of a class that a test sheet
    /// lacks there is nothing to say.
    pub fn f1_macro(&self) -> f64 {
        let (truth, answers) = (self.true_counts(), self.answer_counts());
        let there: Vec<usize> = (0..self.counts.len()).filter(|&class| truth[class] + answers[class] > 0).collect();
        there.iter().map(|&class| self.f1(class)).sum::<f64>() / there.len().max(1) as f64
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

    /// Whether the answers collapsed: some [`starved`] class gets nearly none of its due, and these are images enough to say so.
    pub fn collapse(&self) -> Option<Collapse> {
        let (truth, answers, total) = (self.true_counts(), self.answer_counts(), self.total());
        let due: Vec<f64> = truth.iter().map(|&t| ratio(t, total)).collect();
        let most = (0..answers.len()).max_by_key(|&class| answers[class])?;
        let starved = starved(&due, &self.answer_shares(), total)?;
        Some(Collapse {
            starved,
            answered: ratio(answers[starved], total),
            due: due[starved],
            most,
            most_answered: ratio(answers[most], total),
        })
    }

    /// The classes that have images and no answer, be it by chance; where the answers [collapsed](Self::collapse), those with hardly
    /// any too.
    pub fn left_out(&self) -> Option<LeftOut> {
        let (truth, answers, total) = (self.true_counts(), self.answer_counts(), self.total());
        let few = if self.collapse().is_some() { 10 } else { u64::MAX };
        let is_left_out = |class: &usize| truth[*class] > 0 && answers[*class].saturating_mul(few) < truth[*class];
        let classes: Vec<usize> = (0..truth.len()).filter(is_left_out).collect();
        let sum = |counts: &[u64]| classes.iter().map(|&class| counts[class]).sum::<u64>();
        let (images, answered) = (sum(&truth), sum(&answers));
        if classes.is_empty() {
            return None;
        }
        // So many classes somebody leaves out on the average who answers each half as often as is due.
        let most = |due: u64| if few == 10 { (due - 1) / 10 } else { 0 };
        let there = truth.iter().copied().filter(|&due| due > 0);
        let expected: f64 = there.map(|due| at_most(most(due), total, ratio(due, total) / 2.0)).sum();
        let is_chance = at_least(classes.len() as f64, expected) >= UNLIKELY;
        Some(LeftOut { classes, images, answered, is_chance })
    }
}

/// Classes that are hardly ever answered, proven or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// In class order.
    pub classes: Vec<usize>,
    /// Images of them.
    pub images: u64,
    /// Answers of them.
    pub answered: u64,
    /// Whether somebody who answers each class half as often as is due could leave out as many by chance, once in a hundred times: of a
    /// hundred classes with two images each some have no answer whoever answers.
    pub is_chance: bool,
}

/// Answers that leave a class out. Shares are of 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Collapse {
    /// The class that is hardly answered, the largest of them.
    pub starved: usize,
    /// Its share of the answers.
    pub answered: f64,
    /// Its share of the images.
    pub due: f64,
    /// The class that is answered most.
    pub most: usize,
    /// Its share of the answers.
    pub most_answered: f64,
}

/// A class that others swallow: it gets less than a tenth of its due. Shares are of 1, one a class.
///
/// A rare class may be missed by chance, so that one alone counts from a twentieth of the images. Where all classes are
/// rarer than that (twenty and more of them) they count together: when those that get less than a tenth are due three
/// quarters of the images. All classes but the one that is answered most count together from a twentieth, as the other of two classes
/// does: else one answer for everything would pass wherever one class is large and each other rare. And of few `images` any class may be
/// missed by chance: it counts where whoever answers it half as often as is due would come so low in one of a hundred cases at most.
/// Gives the largest.
pub fn starved(due: &[f64], got: &[f64], images: u64) -> Option<usize> {
    let classes = || 0..due.len().min(got.len());
    let hungry = || classes().filter(|&class| got[class] < due[class] / 10.0);
    let largest = hungry().max_by(|&a, &b| due[a].total_cmp(&due[b]).then(b.cmp(&a)))?;
    let lost = |due: f64, got: f64| {
        let answers = (got * images as f64).round() as u64;
        at_most(answers, images, due / 2.0) < UNLIKELY
    };
    let together = |classes: &mut dyn Iterator<Item = usize>| {
        classes.fold((0.0, 0.0), |(all_due, all_got), class| (all_due + due[class], all_got + got[class]))
    };
    let alone = due[largest] >= 0.05 && lost(due[largest], got[largest]);
    let (due_hungry, got_hungry) = together(&mut hungry());
    let all_hungry = due_hungry >= 0.75 && lost(due_hungry, got_hungry);
    let most = classes().max_by(|&a, &b| got[a].total_cmp(&got[b]))?;
    let (due_others, got_others) = together(&mut classes().filter(|&class| class != most));
    let all_but_one = due_others >= 0.05 && got_others < due_others / 10.0 && lost(due_others, got_others);
    (alone || all_hungry || all_but_one).then_some(largest)
}

/// What is less likely than this is no chance.
const UNLIKELY: f64 = 0.01;

/// P(X ≤ `most`) of a binomial X: so many of `n` cases at most, each with the probability `p` below 1. 0 where it is too small
/// for a float64.
fn at_most(most: u64, n: u64, p: f64) -> f64 {
    let mut term = (n as f64 * (-p).ln_1p()).exp();
    let mut sum = term;
    for k in 0..most.min(n) {
        term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
        sum += term;
    }
    sum
}

/// The most that the chance of a count of `found` and more can be where `expected` are (Chernoff's bound): 1 up to the mean.
fn at_least(found: f64, expected: f64) -> f64 {
    if found <= expected { 1.0 } else { (found - expected - found * (found / expected).ln()).exp() }
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
        let collapse = Confusion::new(2, &truth, &[1; 100]).collapse();
        assert_eq!(collapse, Some(Collapse { starved: 0, answered: 0.0, due: 0.5, most: 1, most_answered: 1.0 }));
        let rare: Vec<usize> = (0..100).map(|i| usize::from(i >= 3)).collect();
        assert_eq!(Confusion::new(2, &rare, &[1; 100]).collapse(), None);
    }

    #[test]
    fn a_few_images_do_not_make_a_collapse_unless_all_of_them_do() {
        // Ten classes with two validation images each, one class without an answer: that happens to good models.
        let truth: Vec<usize> = (0..20).map(|image| image % 10).collect();
        let without_9: Vec<usize> = truth.iter().map(|&class| if class == 9 { 4 } else { class }).collect();
        assert_eq!(Confusion::new(10, &truth, &without_9).collapse(), None);
        // One answer for everything does not, be there a single image of each class.
        for each in [1, 2] {
            let truth: Vec<usize> = (0..10 * each).map(|image| image % 10).collect();
            let collapse = Confusion::new(10, &truth, &vec![3; truth.len()]).collapse();
            assert_eq!(collapse.map(|collapse| (collapse.most, collapse.most_answered)), Some((3, 1.0)), "{each}");
        }
        // Of two classes with five images each either may be missed; with ten each, none of twenty answers is no chance.
        let halves = |each: usize| [vec![0; each], vec![1; each]].concat();
        assert_eq!(Confusion::new(2, &halves(5), &[1; 10]).collapse(), None);
        assert!(Confusion::new(2, &halves(10), &[1; 20]).collapse().is_some());
    }

    #[test]
    fn a_class_without_an_answer_is_left_out_however_few_its_images_are() {
        let of = |truth: &[usize], answers: &[usize]| Confusion::new(3, truth, answers).left_out();
        assert_eq!(of(&[0, 0, 1, 2], &[0, 1, 2, 1]), None);
        // Five and three images, all answered as the first: nothing that a run would be refused for.
        let few = [[0usize; 5].as_slice(), &[1; 3]].concat();
        assert_eq!(Confusion::new(3, &few, &[0; 8]).collapse(), None);
        assert_eq!(of(&few, &[0; 8]), Some(LeftOut { classes: vec![1], images: 3, answered: 0, is_chance: true }));
        let many = [[0usize; 500].as_slice(), &[1; 300], &[2; 20]].concat();
        assert_eq!(
            of(&many, &[0; 820]),
            Some(LeftOut { classes: vec![1, 2], images: 320, answered: 0, is_chance: false })
        );
        // A rare class that is missed is refused no run either, and yet no chance.
        let rare = [[0usize; 480].as_slice(), &[1; 20], &[2; 500]].concat();
        let without_1: Vec<usize> = rare.iter().map(|&class| if class == 1 { 0 } else { class }).collect();
        assert_eq!(Confusion::new(3, &rare, &without_1).collapse(), None);
        let left_out = LeftOut { classes: vec![1], images: 20, answered: 0, is_chance: false };
        assert_eq!(of(&rare, &without_1), Some(left_out));
        // Two answers where three hundred are due are as good as none; one of eight is what chance does.
        let mut two = vec![0; 800];
        two[600..602].fill(1);
        let left_out = LeftOut { classes: vec![1], images: 300, answered: 2, is_chance: false };
        assert_eq!(of(&many[..800], &two), Some(left_out));
        assert_eq!(of(&few, &[0, 0, 0, 0, 0, 0, 0, 1]), None);
    }

    #[test]
    fn some_of_many_classes_with_few_images_are_left_out_by_chance() {
        let truth: Vec<usize> = (0..200).map(|at| at / 2).collect();
        let of = |answers: &dyn Fn(usize) -> usize| {
            let answers: Vec<usize> = truth.iter().map(|&class| answers(class)).collect();
            let left_out = Confusion::new(100, &truth, &answers).left_out().unwrap();
            (left_out.classes.len(), left_out.is_chance)
        };
        // 13 are taken for their neighbours; half as often as is due, 37 would have no answer.
        assert_eq!(of(&|class| if class < 13 { class + 50 } else { class }), (13, true));
        assert_eq!(of(&|class| class % 20), (80, false));
        // Of ten classes with thirty images each one is never answered.
        let truth: Vec<usize> = (0..300).map(|at| at / 30).collect();
        let answers: Vec<usize> = truth.iter().map(|&class| if class == 7 { 1 } else { class }).collect();
        assert!(!Confusion::new(10, &truth, &answers).left_out().unwrap().is_chance);
    }

    #[test]
    fn counts_of_other_classes_are_no_matrix() {
        let counts = vec![vec![3, 1], vec![2, 4]];
        assert_eq!(Confusion::of_counts(&counts, 2).unwrap().counts(), counts);
        for (counts, classes) in [(&counts[..], 3), (&counts[..1], 1), (&counts[..0], 2)] {
            assert_eq!(Confusion::of_counts(counts, classes), None);
        }
    }

    #[test]
    fn the_tail_of_a_binomial_is_the_sum_of_its_terms() {
        for (most, n, p, expected) in [
            (0, 20, 0.25, 0.003_171_211_938_934),
            (3, 50, 0.1, 0.250_293_905_953_308),
            (49, 1000, 0.25, 0.0),
            (10, 10, 0.3, 1.0),
        ] {
            assert!((at_most(most, n, p) - expected).abs() < 1e-9, "{most} of {n} at {p}: {}", at_most(most, n, p));
        }
    }

    #[test]
    fn many_classes_collapse_together_though_each_of_them_is_rare() {
        let truth: Vec<usize> = (0..1000).map(|image| image % 100).collect();
        let collapse = Confusion::new(100, &truth, &[7; 1000]).collapse();
        assert_eq!(collapse, Some(Collapse { starved: 0, answered: 0.0, due: 0.01, most: 7, most_answered: 1.0 }));
        // Two thirds of the classes get everything: bad, but no collapse.
        let most: Vec<usize> = truth.iter().map(|class| class % 66).collect();
        assert_eq!(Confusion::new(100, &truth, &most).collapse(), None);
    }

    #[test]
    fn one_answer_for_everything_is_a_collapse_though_that_class_is_large_and_each_other_rare() {
        // A class of 48 images and 19 of six each: one alone is below a twentieth, together they are below three quarters.
        let rare: Vec<usize> = (0..19 * 6).map(|image| 1 + image % 19).collect();
        let truth = [vec![0; 48], rare].concat();
        let collapse = Confusion::new(20, &truth, &[0; 162]).collapse().unwrap();
        assert_eq!((collapse.starved, collapse.most, collapse.most_answered), (1, 0, 1.0));
        // Where a third of the rare ones is answered it is none, nor where all of them are a fiftieth of the images.
        let some: Vec<usize> = truth.iter().map(|&class| if class < 7 { class } else { 0 }).collect();
        assert_eq!(Confusion::new(20, &truth, &some).collapse(), None);
        let rare: Vec<usize> = (0..20).map(|image| 1 + image % 4).collect();
        let truth = [vec![0; 980], rare].concat();
        assert_eq!(Confusion::new(5, &truth, &[0; 1000]).collapse(), None);
    }

    #[test]
    fn a_class_that_a_test_sheet_lacks_is_in_no_mean() {
        let right = Confusion::new(3, &[0, 0, 1, 1], &[0, 0, 1, 1]);
        assert_eq!((right.f1_macro(), right.balanced_accuracy()), (1.0, 1.0));
        // Answered, though it is not there: that is an error, and F1 of it is 0.
        let wrong = Confusion::new(3, &[0, 0, 1, 1], &[0, 0, 1, 2]);
        assert!((wrong.f1_macro() - (1.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
    }
}
