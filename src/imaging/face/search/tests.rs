use super::*;
use crate::imaging::face::cut;
use crate::imaging::{DecodeLimits, decode};
use image::Rgb;
use image::imageops::{FilterType, overlay, resize};

fn drawn() -> Vec<RgbImage> {
    let faces = crate::demo::dataset::draw(40, 7, "face").unwrap();
    faces.iter().map(|face| decode(&face.bytes, &DecodeLimits::default()).unwrap()).collect()
}

/// The picture at `side`² on a photo of something else.
fn in_a_photo(image: &RgbImage, (left, top): (u32, u32), side: u32) -> RgbImage {
    let mut photo = RgbImage::from_fn(640, 480, |x, y| Rgb([(x / 8) as u8 + 60, (y / 6) as u8 + 50, 110]));
    overlay(&mut photo, &resize(image, side, side, FilterType::CatmullRom), i64::from(left), i64::from(top));
    photo
}

#[test]
fn a_face_is_found_at_any_size_and_place_of_a_photo() {
    for (left, top, side) in [(330, 60, 160), (0, 0, 420), (20, 330, 140)] {
        let mut found = 0;
        for (index, image) in drawn().iter().take(20).enumerate() {
            let Some(face) = find(&in_a_photo(image, (left, top), side)) else { continue };
            found += 1;
            // Drawn heads stand in the middle of their pictures and fill about half of them.
            let (x, y) = (face.left + face.side / 2.0, face.top + face.side / 2.0);
            let (x, y) = ((x - left as f32) / side as f32, (y - top as f32) / side as f32);
            assert!((0.35..0.65).contains(&x) && (0.3..0.7).contains(&y), "drawing {index}: {face:?}");
            assert!((0.5..1.15).contains(&(face.side / side as f32)), "drawing {index}: {face:?}");
            assert!(face.roll.abs() < 35.0 && (0.5..1.0).contains(&face.score), "drawing {index}: {face:?}");
        }
        assert!(found >= 19, "{found} of 20 at {left}, {top} with {side} pixels");
    }
}

thread_local! {
    pub static LOOKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// What [`best`] finds, by all looks at all places.
fn best_of_all(image: &RgbImage, windows: &[Window], least: f32) -> Option<Face> {
    let judged = places(image, windows).into_iter().filter_map(|place| again(image, &place, 0.0));
    let surest = judged.filter(|seen| seen.score >= least).max_by(|a, b| a.score.total_cmp(&b.score))?;
    Some(Face::about(surest.centre, surest.side, surest.roll, surest.score))
}

#[test]
fn looks_that_are_not_taken_would_have_changed_nothing() {
    let mut drawn = drawn();
    // Some with two faces, some of which are hard to see: smaller, or half of them.
    let two = |a: &RgbImage, b: &RgbImage| {
        let mut photo = in_a_photo(a, (20, 40), 260);
        overlay(&mut photo, &resize(b, 200, 300, FilterType::Triangle), 300, 120);
        photo
    };
    drawn.truncate(12);
    let pairs: Vec<RgbImage> = drawn.chunks_exact(2).map(|pair| two(&pair[0], &pair[1])).collect();
    let cut = drawn.iter().map(|image| image::imageops::crop_imm(image, 0, 0, 60, 40).to_image()).collect::<Vec<_>>();
    drawn.truncate(3);
    let (mut taken, mut all, mut found) = (0, 0, 0);
    let looks = || LOOKS.with(|looks| looks.replace(0));
    for photo in pairs.iter().chain(&cut).chain(&drawn) {
        let (width, height) = (photo.width() as f32, photo.height() as f32);
        let whole = whole(width, height);
        for (windows, least) in [(&whole[..], SURE[0]), (&parts(width, height)[..], SURE[1]), (&whole[..], 0.9)] {
            looks();
            let ours = best(photo, windows, least);
            taken += looks();
            assert_eq!(ours, best_of_all(photo, windows, least));
            all += looks();
            found += u32::from(ours.is_some());
        }
    }
    assert!(found > 12 && taken < all * 9 / 10, "{found} faces, {taken} of {all} looks");
}

#[test]
fn a_large_picture_is_searched_at_a_smaller_size_and_told_in_its_own() {
    let mut tall = RgbImage::from_pixel(300, 1000, Rgb([120, 110, 90]));
    overlay(&mut tall, &resize(&drawn()[0], 300, 300, FilterType::CatmullRom), 0, 700);
    for photo in [in_a_photo(&drawn()[0], (200, 100), 240), tall] {
        let small = find(&photo).unwrap();
        let large = find(&resize(&photo, 3 * photo.width(), 3 * photo.height(), FilterType::Triangle)).unwrap();
        let off = |small: f32, larger: f32| (3.0 * small - larger).abs() < 0.05 * large.side;
        assert!(
            off(small.left, large.left) && off(small.top, large.top) && off(small.side, large.side),
            "{small:?} {large:?}"
        );
    }
}

#[test]
fn a_tilted_head_is_told() {
    let upright = Face { left: 0.0, top: 0.0, side: 160.0, roll: 0.0, score: 1.0 };
    for turn in [-20.0, 20.0] {
        let mut told = Vec::new();
        for image in drawn().iter().take(10) {
            let large = resize(image, 160, 160, FilterType::CatmullRom);
            // The picture turned clockwise, as `cut` does to a head that is turned the other way.
            let turned = cut(&large, &Face { roll: -turn, ..upright }, 160);
            let turned = find(&RgbImage::from_raw(160, 160, turned).unwrap());
            told.extend(turned.zip(find(&large)).map(|(turned, straight)| turned.roll - straight.roll - turn));
        }
        told.sort_by(f32::total_cmp);
        assert!(told.len() >= 9 && told[told.len() / 2].abs() < 6.0, "{turn}: {told:?}");
    }
}

#[test]
fn what_shows_no_face_has_none() {
    let noise =
        |x: u32, y: u32| (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503)).wrapping_mul(2_246_822_519) >> 24;
    let pictures = [
        RgbImage::from_pixel(300, 200, Rgb([200, 160, 140])),
        RgbImage::from_fn(300, 200, |x, y| Rgb([(x / 2) as u8, y as u8, 90])),
        RgbImage::from_fn(240, 240, |x, y| Rgb([if (x / 30 + y / 30) % 2 == 0 { 230 } else { 20 }; 3])),
        RgbImage::from_fn(200, 300, |x, y| Rgb([noise(x, y) as u8; 3])),
        RgbImage::from_pixel(1, 1, Rgb([9; 3])),
        RgbImage::from_pixel(2000, 1, Rgb([9; 3])),
    ];
    for picture in &pictures {
        assert_eq!(find(picture), None, "{:?}", picture.dimensions());
    }
}

#[test]
fn faces_beside_or_above_each_other_are_two_places_and_so_are_one_within_another() {
    let seen = |x: f32, y: f32, side: f32| Seen { centre: (x, y), side, roll: 0.0, score: 0.9 };
    let place = seen(100.0, 100.0, 40.0);
    for (x, y, side, expected) in [
        (113.0, 113.0, 40.0, true),
        (115.0, 100.0, 40.0, false),
        (100.0, 115.0, 40.0, false),
        (100.0, 85.0, 40.0, false),
        (100.0, 100.0, 20.0, true),
        (100.0, 100.0, 19.0, false),
        (100.0, 100.0, 80.0, false),
    ] {
        assert_eq!(same_place(&place, &seen(x, y, side)), expected, "{x}, {y}, side {side}");
    }
}

#[test]
fn parts_cover_the_picture_in_halves() {
    for (width, height, count) in [(640.0, 480.0, 6), (480.0, 480.0, 9), (1000.0, 200.0, 3)] {
        let parts = parts(width, height);
        assert_eq!(parts.len(), count, "{width}×{height}");
        assert_eq!((parts[0].left, parts[count - 1].left + parts[count - 1].side), (0.0, width));
    }
}

#[test]
fn around_a_picture_is_grey() {
    let picture = RgbImage::from_pixel(50, 100, Rgb([250, 0, 0]));
    let seen = view(&picture, Window::about((25.0, 50.0), 200.0)).unwrap();
    let at = |x: usize, y: usize| seen[(y * SIDE + x) * 3..][..3].to_vec();
    assert_eq!((at(64, 64), at(5, 64), at(64, 5)), (vec![250, 0, 0], vec![128; 3], vec![128; 3]));
    let columns = (0..SIDE).filter(|&x| at(x, 64) == [250, 0, 0]).count();
    let rows = (0..SIDE).filter(|&y| at(64, y) == [250, 0, 0]).count();
    assert_eq!((columns, rows), (32, 64));
    assert!(view(&picture, Window::about((-500.0, 0.0), 200.0)).is_none());
}

#[test]
fn every_window_that_shows_something_can_be_looked_at() {
    let picture = RgbImage::from_pixel(640, 480, Rgb([250, 0, 0]));
    // A width rounded to f32 reached a hair beyond the edge, and was refused.
    assert!(view(&picture, Window { left: 90.02737, top: -50.0, side: 562.2497 }).is_some());
    // Half a place at the far end.
    let end = Window { left: -1025.7563, top: -300.0, side: 1029.7788 };
    assert!(view(&RgbImage::from_pixel(1000, 10, Rgb([1; 3])), end).is_none());
    for seed in 0..4000_u32 {
        let roll = |salt: u32| {
            (seed.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503_001)) >> 8) as f32
                / (1 << 24) as f32
        };
        let window =
            Window { left: 1400.0 * roll(1) - 700.0, top: 1200.0 * roll(2) - 600.0, side: 3.0 + 900.0 * roll(3) };
        let shown = |start: f32, length: f32| (start + window.side).min(length) - start.max(0.0);
        let (wide, high) = (shown(window.left, 640.0), shown(window.top, 480.0));
        let Some(seen) = view(&picture, window) else {
            let place = window.side / SIDE as f32;
            assert!(wide < place.max(1.0) || high < place.max(1.0), "{window:?}");
            continue;
        };
        assert!(seen.chunks_exact(3).any(|pixel| pixel == [250, 0, 0]), "{window:?}");
    }
}
