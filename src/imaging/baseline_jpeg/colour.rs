//! Planes of brightness and colour to RGB.

/// A component's pixels.
pub struct Plane {
    /// Pixels of a row.
    pub width: usize,
    /// Rows of them.
    pub pixels: Vec<u8>,
}

impl Plane {
    fn row(&self, y: usize) -> &[u8] {
        &self.pixels[y * self.width..][..self.width]
    }

    fn height(&self) -> usize {
        self.pixels.len() / self.width
    }
}

/// The upper left `across` × `down` pixels of planes, of which those of colours may be half as wide or high as that of the brightness, the first.
#[inline(always)]
pub fn rgb(planes: &[Plane], (across, down): (usize, usize)) -> Vec<u8> {
    let mut rgb = vec![0; 3 * across * down];
    let rows = rgb.chunks_exact_mut(3 * across).map(|row| row.as_chunks_mut::<3>().0).enumerate();
    match planes {
        [brightness, blue, red] => {
            let (mut blue, mut red) = (Colour::new(blue, brightness), Colour::new(red, brightness));
            for (y, row) in rows {
                write(row, brightness.row(y), blue.row(y), red.row(y));
            }
        }
        _ => {
            for (y, row) in rows {
                row.iter_mut().zip(planes[0].row(y)).for_each(|(pixel, grey)| *pixel = [*grey; 3]);
            }
        }
    }
    rgb
}

/// A colour's rows, as wide and many as those of the brightness: pixels in between are made of three parts of the nearest and one of the next
/// (as libjpeg does, which calls it triangle).
struct Colour<'a> {
    plane: &'a Plane,
    /// Whether there are twice as many pixels of brightness, across and down.
    halved: (bool, bool),
    /// A row between two.
    between: Vec<u8>,
    /// A row of the brightness's width.
    wide: Vec<u8>,
}

impl<'a> Colour<'a> {
    fn new(plane: &'a Plane, brightness: &Plane) -> Self {
        let halved = (plane.width < brightness.width, plane.height() < brightness.height());
        let buffer = |is_used: bool, width: usize| vec![0; if is_used { width } else { 0 }];
        let (between, wide) = (buffer(halved.1, plane.width), buffer(halved.0, brightness.width));
        Self { plane, halved, between, wide }
    }

    #[inline(always)]
    fn row(&mut self, y: usize) -> &[u8] {
        let row = if self.halved.1 {
            let near = y / 2;
            let next =
                if y.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(self.plane.height() - 1) };
            for ((between, near), next) in self.between.iter_mut().zip(self.plane.row(near)).zip(self.plane.row(next)) {
                *between = nearer(*near, *next);
            }
            &self.between
        } else {
            self.plane.row(y)
        };
        if self.halved.0 {
            widen(row, &mut self.wide);
            &self.wide
        } else {
            row
        }
    }
}

/// Three parts of one level and one of another.
#[inline(always)]
fn nearer(near: u8, next: u8) -> u8 {
    ((3 * u16::from(near) + u16::from(next) + 2) >> 2) as u8
}

/// Twice as many pixels of a row.
#[inline(always)]
fn widen(row: &[u8], wide: &mut [u8]) {
    let (pairs, last) = (wide.as_chunks_mut::<2>().0, row.len() - 1);
    // Beyond its ends a row goes on as it ends.
    pairs[0] = [row[0], nearer(row[0], row[last.min(1)])];
    for (pair, of) in pairs[1..].iter_mut().zip(row.windows(3)) {
        *pair = [nearer(of[1], of[0]), nearer(of[1], of[2])];
    }
    pairs[last] = [nearer(row[last], row[last.saturating_sub(1)]), row[last]];
}

/// Pixels that are made at once.
const LANES: usize = 32;

/// A row of pixels from as many levels of each plane at least.
#[inline(always)]
fn write<'a>(row: &mut [[u8; 3]], brightness: &'a [u8], blue: &'a [u8], red: &'a [u8]) {
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    let behind = chunks.len() * LANES;
    let lanes = |plane: &'a [u8]| plane.as_chunks::<LANES>().0;
    for (((chunk, y), cb), cr) in chunks.iter_mut().zip(lanes(brightness)).zip(lanes(blue)).zip(lanes(red)) {
        // Copies, and colour by colour before pixel by pixel: so the compiler makes vectors of both loops.
        let (y, cb, cr) = (*y, *cb, *cr);
        let mut levels = [[0; LANES]; 3];
        for lane in 0..LANES {
            [levels[0][lane], levels[1][lane], levels[2][lane]] = colour(y[lane], cb[lane], cr[lane]);
        }
        for (lane, pixel) in chunk.iter_mut().enumerate() {
            *pixel = [levels[0][lane], levels[1][lane], levels[2][lane]];
        }
    }
    for (((pixel, y), cb), cr) in rest.iter_mut().zip(&brightness[behind..]).zip(&blue[behind..]).zip(&red[behind..]) {
        *pixel = colour(*y, *cb, *cr);
    }
}

/// RGB of a brightness and its differences (JFIF 1.02), in 16,384ths; a half is rounded down, as zune-jpeg does.
#[inline(always)]
fn colour(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i16::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let level = |difference: i32| (y + ((difference + 8191) >> 14) as i16).clamp(0, 255) as u8;
    [level(22_970 * cr), level(-5_638 * cb - 11_700 * cr), level(29_032 * cb)]
}
