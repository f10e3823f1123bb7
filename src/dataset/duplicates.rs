//! Pictures that occur more than once: the same pixels under another name, at the size that each is checked at. A mark of a few
//! pixels in a large picture is lost there: so what is told of copies names the size.

use std::collections::HashMap;

use super::labels::quoted;
use super::left_out::LeftOut;
use super::manifest::Role;
use super::perceptual_hash::SIDE;
use super::rows::Candidate;

/// Decides, picture by picture, which rows stay; `digests[i]` is the pixel hash of `candidates[i]`, absent
/// where decoding failed (those rows are dropped without a word: their reason is told already). Gives with that, for each row that
/// gave way to another of its sheet, both: (dropped, kept).
///
/// A training row whose picture is also in the test sheet goes, so that test figures stay honest. Rows that
/// contradict each other all go. Of the rest the first with a label stays.
pub(super) fn keep(
    candidates: &[Candidate],
    digests: &[Option<[u8; 32]>],
    out: &mut LeftOut,
) -> (Vec<bool>, Vec<(usize, usize)>) {
    let mut groups: HashMap<[u8; 32], Vec<usize>> = HashMap::new();
    for (index, digest) in digests.iter().enumerate() {
        if let Some(digest) = digest {
            groups.entry(*digest).or_default().push(index);
        }
    }
    let mut keep: Vec<bool> = digests.iter().map(Option::is_some).collect();
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    let mut copies = Vec::new();
    for group in groups {
        let (test, train): (Vec<usize>, Vec<usize>) =
            group.into_iter().partition(|&index| candidates[index].role == Role::Test);
        let dropped = if test.is_empty() {
            within(candidates, &train)
        } else {
            let named = quoted(&candidates[test[0]].image);
            let leaked = train.iter().map(|&index| {
                let detail =
                    format!("the same picture, at {SIDE} × {SIDE} pixels, is test image {named}; not trained on");
                Dropped { index, code: "in_test_too", detail, kept: None }
            });
            leaked.chain(within(candidates, &test)).collect()
        };
        for Dropped { index, code, detail, kept } in dropped {
            keep[index] = false;
            copies.extend(kept.map(|kept| (index, kept)));
            out.push(candidates[index].rejected(code, detail));
        }
    }
    (keep, copies)
}

/// A row that goes, and why.
struct Dropped {
    index: usize,
    code: &'static str,
    detail: String,
    /// The row of the same picture that stays for it.
    kept: Option<usize>,
}

/// Rows to drop among those of one picture in one sheet.
fn within(candidates: &[Candidate], group: &[usize]) -> Vec<Dropped> {
    let mut labelled = group.iter().map(|&index| &candidates[index]).filter(|candidate| candidate.label.is_some());
    let first = labelled.next();
    // Two rows that contradict each other; each of the group contradicts one of them.
    if let (Some(first), Some(second)) =
        (first, labelled.find(|other| first.is_some_and(|first| first.label != other.label)))
    {
        let told = |&index: &usize| {
            let other = if candidates[index].label == first.label { second } else { first };
            let (image, row) = (quoted(&other.image), other.row);
            let label = quoted(other.label.as_deref().unwrap_or_default());
            let detail = format!(
                "the same picture, at {SIDE} × {SIDE} pixels, stands under different labels: it is {image} too, which row {row} \
                 labels {label}"
            );
            Dropped { index, code: "conflicting_label", detail, kept: None }
        };
        return group.iter().map(told).collect();
    }
    let stays = group.iter().position(|&index| candidates[index].label.is_some()).unwrap_or(0);
    let Some(&kept) = group.get(stays) else { return Vec::new() };
    let name = quoted(&candidates[kept].image);
    let others = group.iter().filter(|&&index| index != kept);
    let detail = format!("the same picture, at {SIDE} × {SIDE} pixels, is {name}");
    let dropped = |&index: &usize| Dropped { index, code: "duplicate_image", detail: detail.clone(), kept: Some(kept) };
    others.map(dropped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn candidate(role: Role, row: u64, label: Option<&str>) -> Candidate {
        Candidate {
            role,
            unlisted: false,
            row,
            image: format!("{}{row}.jpg", role.as_str()),
            entry: row as u32,
            label: label.map(str::to_owned),
            picked: false,
            attributes: BTreeMap::new(),
        }
    }

    fn codes(candidates: &[Candidate], pictures: &[u8]) -> (Vec<bool>, Vec<String>) {
        let digests: Vec<_> = pictures.iter().map(|&picture| Some([picture; 32])).collect();
        let mut out = LeftOut::default();
        let (keep, _) = keep(candidates, &digests, &mut out);
        (keep, out.listed().iter().map(|row| row.code.clone()).collect())
    }

    #[test]
    fn a_training_picture_that_is_tested_on_goes() {
        let rows = [candidate(Role::Train, 2, Some("a")), candidate(Role::Test, 2, Some("a"))];
        assert_eq!(codes(&rows, &[1, 1]), (vec![false, true], vec!["in_test_too".to_owned()]));
    }

    #[test]
    fn a_picture_of_both_sheets_is_tested_on_once() {
        let rows = [
            candidate(Role::Train, 2, Some("a")),
            candidate(Role::Test, 2, Some("a")),
            candidate(Role::Test, 3, Some("a")),
        ];
        assert_eq!(codes(&rows, &[1, 1, 1]).0, [false, true, false]);
    }

    #[test]
    fn an_image_that_no_row_names_gives_way_to_any_row() {
        let unlisted = |place| Candidate { unlisted: true, ..candidate(Role::Train, place, None) };
        let rows = [
            candidate(Role::Train, 2, Some("a")),
            candidate(Role::Train, 3, None),
            candidate(Role::Train, 4, Some("a")),
            candidate(Role::Train, 5, Some("b")),
            candidate(Role::Test, 2, Some("a")),
            unlisted(1),
            unlisted(2),
            unlisted(3),
            unlisted(4),
            unlisted(5),
            unlisted(6),
        ];
        let digests = [1, 2, 3, 3, 4, 1, 2, 3, 4, 5, 5].map(|picture| Some([picture; 32]));
        let mut out = LeftOut::default();
        let (keep, copies) = keep(&rows, &digests, &mut out);
        assert_eq!(keep, [true, true, false, false, true, false, false, false, false, true, false]);
        assert_eq!(copies, [(5, 0), (6, 1), (10, 9)], "neither of what contradicts itself nor of what is tested on");
        let mut told: Vec<_> = out.listed().iter().filter(|row| row.sheet == "archive").collect();
        told.sort_by_key(|row| row.row);
        let codes: Vec<_> = told.iter().map(|row| (row.row, row.code.as_str())).collect();
        let (copy, conflict) = ("duplicate_image", "conflicting_label");
        assert_eq!(codes, [(1, copy), (2, copy), (3, conflict), (4, "in_test_too"), (6, copy)]);
    }

    #[test]
    fn contradictions_go_and_of_equals_the_labelled_one_stays() {
        let rows = [
            candidate(Role::Train, 2, Some("a")),
            candidate(Role::Train, 3, Some("b")),
            candidate(Role::Train, 4, None),
            candidate(Role::Train, 5, Some("b")),
        ];
        let (keep, codes) = codes(&rows, &[1, 1, 2, 2]);
        assert_eq!(keep, [false, false, false, true]);
        assert_eq!(codes.iter().filter(|code| *code == "conflicting_label").count(), 2);
        assert_eq!(codes.iter().filter(|code| *code == "duplicate_image").count(), 1);
    }

    #[test]
    fn a_contradiction_names_the_other_side() {
        let rows = [
            candidate(Role::Train, 2, Some("a")),
            candidate(Role::Train, 3, Some("b")),
            candidate(Role::Train, 4, None),
        ];
        let mut out = LeftOut::default();
        keep(&rows, &[Some([1; 32]); 3], &mut out);
        let details: Vec<&str> = out.listed().iter().map(|row| row.detail.as_str()).collect();
        assert_eq!(
            details,
            [
                "the same picture, at 32 × 32 pixels, stands under different labels: it is \"train3.jpg\" too, which row 3 labels \"b\"",
                "the same picture, at 32 × 32 pixels, stands under different labels: it is \"train2.jpg\" too, which row 2 labels \"a\"",
                "the same picture, at 32 × 32 pixels, stands under different labels: it is \"train2.jpg\" too, which row 2 labels \"a\"",
            ]
        );
    }

    #[test]
    fn a_row_that_could_not_be_decoded_is_dropped_silently() {
        let rows = [candidate(Role::Train, 2, Some("a"))];
        let mut out = LeftOut::default();
        assert_eq!(keep(&rows, &[None], &mut out), (vec![false], Vec::new()));
        assert!(out.is_empty());
    }
}
