//! Where in a picture the network looks: at the whole of it, at parts where that shows nothing, and again at what it found.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use super::Face;
use super::anchors::{Found, faces};
use super::network::{Network, SIDE};

/// The longer side of a picture that is searched, pixels: its parts are then four times the network's input.
const ENOUGH: u32 = 1024;

/// A score from which further looks are worth it.
const WORTH_A_LOOK: f32 = 0.3;

/// A score below which nothing is counted as seen.
const LEAST: f32 = 0.02;

/// Places of a level that get further looks, the best first.
const PLACES: usize = 3;

/// The mean score of all further looks that is a face: among the windows about the whole picture, and among its parts,
/// which are more and show more that might be one. How both were chosen: docs/experiments.md, "Cut to the face".
const SURE: [f32; 2] = [0.5, 0.6];

/// Sides of the windows about the whole picture, of its longer side. The wide one is for pictures that are cut to the
/// face: the network wants to see what is around one.
const WHOLE: [f32; 2] = [1.0, 1.8];

/// Sides of a face in the windows of the further looks. The box is the middle one's, where the network is best.
const CLOSE: [f32; 3] = [0.3, 0.45, 0.6];

/// A square of a picture, pixels; it may reach beyond the edges.
#[derive(Clone, Copy, Debug)]
struct Window {
    left: f32,
    top: f32,
    side: f32,
}

/// How a window is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    AsItIs,
    Mirrored,
}

/// A detector's box in a picture.
#[derive(Clone, Copy, Debug)]
struct Seen {
    centre: (f32, f32),
    side: f32,
    roll: f32,
    score: f32,
}

impl Window {
    fn about((x, y): (f32, f32), side: f32) -> Self {
        Self { left: x - side / 2.0, top: y - side / 2.0, side }
    }
}

/// The face that a picture shows: the one it is surest of, where there are several. None where it finds none: a back, a
/// profile, a face smaller than about a tenth of the picture's longer side.
pub fn find(image: &RgbImage) -> Option<Face> {
    match smaller(image) {
        None => find_in(image),
        Some((small, factor)) => find_in(&small).map(|face| face.scaled(factor)),
    }
}

/// A picture that is larger than the search needs, at a size that is enough, as every look passes over the pixels; and how many
/// times as large it is.
fn smaller(image: &RgbImage) -> Option<(RgbImage, f32)> {
    let factor = image.width().max(image.height()) as f32 / ENOUGH as f32;
    if factor <= 1.0 {
        return None;
    }
    let side = |side: u32| ((side as f32 / factor).round() as u32).max(1);
    let to = (side(image.width()), side(image.height()));
    let all = ((0.0, 0.0), (image.width() as f32, image.height() as f32));
    Some((RgbImage::from_raw(to.0, to.1, resized(image, all, to))?, factor))
}

fn find_in(image: &RgbImage) -> Option<Face> {
    let (width, height) = (image.width() as f32, image.height() as f32);
    best(image, &whole(width, height), SURE[0]).or_else(|| best(image, &parts(width, height), SURE[1]))
}

/// The windows about the whole picture.
fn whole(width: f32, height: f32) -> [Window; 2] {
    WHOLE.map(|share| Window::about((width / 2.0, height / 2.0), share * width.max(height)))
}

/// Half of the longer side, half overlapping: what lies on the edge of one is in the middle of another.
fn parts(width: f32, height: f32) -> Vec<Window> {
    let side = width.max(height) / 2.0;
    let along = |length: f32| {
        let steps = ((length - side) / (side / 2.0)).ceil().max(0.0) as u32;
        // From the first edge to the last in equal steps; a side shorter than the window has it about its middle.
        (0..=steps).map(move |step| match steps {
            0 => (length - side) / 2.0,
            steps => (length - side) * step as f32 / steps as f32,
        })
    };
    along(height).flat_map(|top| along(width).map(move |left| Window { left, top, side })).collect()
}

/// What windows show that is worth further looks, the best first.
fn places(image: &RgbImage, windows: &[Window]) -> Vec<Seen> {
    let mut seen: Vec<Seen> =
        windows.iter().flat_map(|window| look(image, *window, WORTH_A_LOOK, Side::AsItIs)).collect();
    seen.sort_by(|a, b| b.score.total_cmp(&a.score));
    // What several windows show is one place.
    let mut places: Vec<Seen> = Vec::with_capacity(PLACES);
    for one in seen {
        if places.len() < PLACES && !places.iter().any(|other| same_place(other, &one)) {
            places.push(one);
        }
    }
    places
}

/// The face of the highest mean score, `least` or more.
fn best(image: &RgbImage, windows: &[Window], least: f32) -> Option<Face> {
    let (mut surest, mut least): (Option<Seen>, f32) = (None, least);
    for place in places(image, windows) {
        if let Some(seen) = again(image, &place, least) {
            (surest, least) = (Some(seen), seen.score);
        }
    }
    surest.map(|surest| Face::about(surest.centre, surest.side, surest.roll, surest.score))
}

/// Further looks at a place, from three distances and in the mirror: what is no face seldom looks like one in all of them. The
/// box from the middle distance, the mean of the four scores (0 where it is not seen). None where the mean is less than `least`: looks that
/// cannot make it as much are not taken.
fn again(image: &RgbImage, place: &Seen, least: f32) -> Option<Seen> {
    let seen = |close: f32, side: Side| {
        let all = look(image, Window::about(place.centre, place.side / close), LEAST, side);
        all.into_iter().filter(|other| same_place(place, other)).max_by(|a, b| a.score.total_cmp(&b.score))
    };
    // First the one without which there is no box.
    let middle = seen(CLOSE[1], Side::AsItIs)?;
    let mut scores = [0.0, middle.score, 0.0, 0.0];
    let further = [(0, CLOSE[0], Side::AsItIs), (2, CLOSE[2], Side::AsItIs), (3, CLOSE[1], Side::Mirrored)];
    for (taken, (place, close, side)) in further.into_iter().enumerate() {
        // No score is more than 1; a little more, for what the sums round.
        let most = scores.iter().sum::<f32>() + (further.len() - taken) as f32 + 1e-3;
        if most < least * scores.len() as f32 {
            return None;
        }
        scores[place] = seen(close, side).map_or(0.0, |seen| seen.score);
    }
    let score = scores.iter().sum::<f32>() / scores.len() as f32;
    (score >= least).then_some(Seen { score, ..middle })
}

fn same_place(place: &Seen, other: &Seen) -> bool {
    let near = |a: f32, b: f32| (a - b).abs() < 0.35 * place.side;
    near(place.centre.0, other.centre.0)
        && near(place.centre.1, other.centre.1)
        && (0.5..2.0).contains(&(other.side / place.side))
}

/// The faces in a window, where they are in the picture. In the mirror the eyes change places, so that only the box is right.
fn look(image: &RgbImage, window: Window, least: f32, side: Side) -> Vec<Seen> {
    #[cfg(test)]
    tests::LOOKS.with(|looks| looks.set(looks.get() + 1));
    let Some(mut pixels) = view(image, window) else { return Vec::new() };
    if side == Side::Mirrored {
        mirror(&mut pixels);
    }
    let answer = Network::get().run(&pixels);
    let found = faces(&answer, least).into_iter().map(|found| match side {
        Side::AsItIs => found,
        Side::Mirrored => Found { centre: (1.0 - found.centre.0, found.centre.1), ..found },
    });
    found.map(|found| placed(&found, window)).collect()
}

fn mirror(pixels: &mut [u8]) {
    for row in pixels.chunks_exact_mut(SIDE * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

fn placed(found: &Found, window: Window) -> Seen {
    let [first, second] = found.eyes;
    Seen {
        centre: (window.left + found.centre.0 * window.side, window.top + found.centre.1 * window.side),
        side: found.side * window.side,
        roll: (second.1 - first.1).atan2(second.0 - first.0).to_degrees(),
        score: found.score,
    }
}

/// The window at the network's size, grey where there is no picture. None where it shows nothing of the picture.
fn view(image: &RgbImage, window: Window) -> Option<Vec<u8>> {
    let scale = SIDE as f32 / window.side;
    // What of the picture is in the window, in its pixels, and where that lies in the view.
    let span = |start: f32, length: u32| {
        let (from, to) = (start.max(0.0), (start + window.side).min(length as f32));
        let first = ((from - start) * scale).round().clamp(0.0, SIDE as f32) as usize;
        let places = (((to - from) * scale).round().max(0.0) as usize).min(SIDE - first);
        (to - from >= 1.0 && places > 0).then_some((from, to, first, places))
    };
    let (left, right, x, columns) = span(window.left, image.width())?;
    let (top, bottom, y, rows) = span(window.top, image.height())?;
    let part = resized(image, ((left, top), (right, bottom)), (columns as u32, rows as u32));
    let mut view = vec![128; SIDE * SIDE * 3];
    for (row, pixels) in part.chunks_exact(columns * 3).enumerate() {
        let first = ((y + row) * SIDE + x) * 3;
        view[first..first + columns * 3].copy_from_slice(pixels);
    }
    Some(view)
}

/// The part of a picture between two corners, at another size. Black where the resizer refuses, which it does for a part beyond the
/// picture alone.
fn resized(image: &RgbImage, ((left, top), (right, bottom)): ((f32, f32), (f32, f32)), to: (u32, u32)) -> Vec<u8> {
    // In f64 the difference of two f32 is exact, so that the part ends where it should.
    let (left, top) = (f64::from(left), f64::from(top));
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        left,
        top,
        f64::from(right) - left,
        f64::from(bottom) - top,
    );
    let mut part = Image::new(to.0, to.1, PixelType::U8x3);
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3);
    let done = source.map(|source| Resizer::new().resize(&source, &mut part, &options).is_ok());
    debug_assert_eq!(done.ok(), Some(true), "{left}, {top} to {right}, {bottom} of {:?}", image.dimensions());
    part.into_vec()
}

#[cfg(test)]
mod tests;
