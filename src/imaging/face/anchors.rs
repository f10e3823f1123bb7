//! From the network's numbers to faces: anchors, scores, and one face of the answers that mean the same.

use super::network::{Answer, REGRESSED, SIDE};

/// Places a side, and anchors at each: 512 and 384, in the order of the network's answers.
const GRIDS: [(usize, usize); 2] = [(16, 2), (8, 6)];

/// Boxes that share this much of what they cover together are one face.
const SAME: f32 = 0.3;

/// A box of one pixel of the input is none.
const SMALLEST: f32 = 1.0 / SIDE as f32;

/// A face in the network's input, whose side is 1.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Middle of the box.
    pub centre: (f32, f32),
    /// Side of the box.
    pub side: f32,
    /// The eye on the picture's left, the one on its right.
    pub eyes: [(f32, f32); 2],
    /// 0 to 1.
    pub score: f32,
}

/// All faces of a score of `least` or more, the best first; each is the mean of the answers that cover it, weighted by their
/// scores (BlazeFace's blending, arXiv 1907.05047 §3.4).
pub fn faces(answer: &Answer, least: f32) -> Vec<Found> {
    let rows = middles().zip(answer.boxes.chunks_exact(REGRESSED)).zip(&answer.scores);
    let mut left: Vec<Found> = rows
        .map(|((middle, numbers), &logit)| found(middle, numbers, 1.0 / (1.0 + (-logit.clamp(-80.0, 80.0)).exp())))
        .filter(|found| found.score >= least && found.side > SMALLEST)
        .collect();
    left.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut faces = Vec::new();
    while !left.is_empty() {
        // Taken out whatever arithmetic says of it, so that each turn has fewer left.
        let best = left.remove(0);
        let (mut same, others): (Vec<Found>, Vec<Found>) =
            left.into_iter().partition(|other| overlap(&best, other) > SAME);
        same.push(best);
        faces.push(mean(&same, best.score));
        left = others;
    }
    faces
}

fn middles() -> impl Iterator<Item = (f32, f32)> {
    GRIDS.into_iter().flat_map(|(places, each)| {
        let middle = move |at: usize| (at as f32 + 0.5) / places as f32;
        (0..places).flat_map(move |y| (0..places).flat_map(move |x| std::iter::repeat_n((middle(x), middle(y)), each)))
    })
}

fn found(middle: (f32, f32), numbers: &[f32], score: f32) -> Found {
    let point = |at: usize| (middle.0 + numbers[at] / SIDE as f32, middle.1 + numbers[at + 1] / SIDE as f32);
    // Boxes are square in the training data; the smaller side is what both agree on.
    let side = numbers[2].min(numbers[3]) / SIDE as f32;
    Found { centre: point(0), side, eyes: [point(4), point(6)], score }
}

/// The area that two boxes share, of that which they cover together.
fn overlap(a: &Found, b: &Found) -> f32 {
    let shared = |a_at: f32, b_at: f32| {
        let end = (a_at + a.side / 2.0).min(b_at + b.side / 2.0);
        (end - (a_at - a.side / 2.0).max(b_at - b.side / 2.0)).max(0.0)
    };
    let both = shared(a.centre.0, b.centre.0) * shared(a.centre.1, b.centre.1);
    both / (a.side * a.side + b.side * b.side - both)
}

fn mean(same: &[Found], score: f32) -> Found {
    let total: f32 = same.iter().map(|found| found.score).sum();
    let of = |part: fn(&Found) -> f32| same.iter().map(|found| part(found) * found.score).sum::<f32>() / total;
    Found {
        centre: (of(|f| f.centre.0), of(|f| f.centre.1)),
        side: of(|f| f.side),
        eyes: [(of(|f| f.eyes[0].0), of(|f| f.eyes[0].1)), (of(|f| f.eyes[1].0), of(|f| f.eyes[1].1))],
        score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANCHORS: usize = 896;

    /// Logits of −20, but at some anchors; boxes of a tenth of the picture about their anchors' middles.
    fn answer(sure: &[(usize, f32)]) -> Answer {
        let mut scores = vec![-20.0; ANCHORS];
        sure.iter().for_each(|(anchor, logit)| scores[*anchor] = *logit);
        let one = |at: usize| if at == 2 || at == 3 { 0.1 * SIDE as f32 } else { 0.0 };
        Answer { scores, boxes: (0..ANCHORS * REGRESSED).map(|at| one(at % REGRESSED)).collect() }
    }

    #[test]
    fn anchors_lie_in_the_middles_of_two_grids() {
        let all: Vec<(f32, f32)> = middles().collect();
        assert_eq!(all.len(), ANCHORS);
        assert_eq!(
            (all[0], all[1], all[2]),
            ((1.0 / 32.0, 1.0 / 32.0), (1.0 / 32.0, 1.0 / 32.0), (3.0 / 32.0, 1.0 / 32.0))
        );
        assert_eq!((all[512], all[ANCHORS - 1]), ((1.0 / 16.0, 1.0 / 16.0), (15.0 / 16.0, 15.0 / 16.0)));
    }

    #[test]
    fn answers_that_cover_each_other_are_one_face_weighted_by_their_scores() {
        // Anchors 0 and 2 are neighbours 1/16 apart, 3 is where 2 is; 511 is in the far corner.
        let found = faces(&answer(&[(0, 3.0), (2, 1.0), (511, 0.0)]), 0.3);
        assert_eq!(found.len(), 3, "boxes of .1 that are 1/16 apart share less than .3");
        let found = faces(&answer(&[(2, 3.0), (3, 1.0), (511, 0.0)]), 0.3);
        assert_eq!(found.len(), 2);
        assert!((found[0].score - 0.9526).abs() < 1e-3 && (found[1].score - 0.5).abs() < 1e-6);
        assert!((found[0].centre.0 - 3.0 / 32.0).abs() < 1e-6 && (found[0].side - 0.1).abs() < 1e-6);
        let mut apart = answer(&[(2, 3.0), (3, 1.0)]);
        // The less sure one a hundredth of the picture to the right.
        apart.boxes[3 * REGRESSED] = 0.01 * SIDE as f32;
        let mixed = faces(&apart, 0.3)[0].centre.0 - 3.0 / 32.0;
        assert!((mixed - 0.01 * 0.7311 / (0.7311 + 0.9526)).abs() < 1e-5, "{mixed}");
    }

    #[test]
    fn the_eyes_are_the_mean_of_the_answers_too() {
        // The less sure answer has each eye elsewhere: by 1, 2, 3 and 4 hundredths of the picture.
        let mut answer = answer(&[(2, 3.0), (3, 1.0)]);
        for (at, off) in (4..8).zip([0.01, 0.02, 0.03, 0.04]) {
            answer.boxes[3 * REGRESSED + at] = off * SIDE as f32;
        }
        let [left, right] = faces(&answer, 0.3)[0].eyes;
        let (x, y, share) = (3.0 / 32.0, 1.0 / 32.0, 0.7311 / (0.7311 + 0.9526));
        for (found, expected) in [(left.0 - x, 0.01), (left.1 - y, 0.02), (right.0 - x, 0.03), (right.1 - y, 0.04)] {
            assert!((found - expected * share).abs() < 1e-5, "{found}, expected is {}", expected * share);
        }
    }

    #[test]
    fn boxes_of_no_size_are_none_and_end() {
        for tiny in [1e-6, 3.8e-6, 0.9, 0.0, -5.0] {
            let mut answer = answer(&[(511, 2.0), (2, 1.0)]);
            answer.boxes[511 * REGRESSED + 2] = tiny;
            let found = faces(&answer, 0.3);
            assert_eq!(found.len(), 1, "{tiny}: {found:?}");
            assert!((found[0].score - 0.7311).abs() < 1e-3);
        }
    }

    #[test]
    fn what_is_below_the_least_score_is_none() {
        assert!(faces(&answer(&[(0, -1.0)]), 0.3).is_empty());
    }
}
