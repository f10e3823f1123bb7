//! What stands before a scan: its size, its components, their tables.

use std::rc::Rc;

use image::metadata::Orientation;

use super::huffman::Codes;
use crate::imaging::jpeg::{SCAN, START};
use crate::imaging::orientation;

/// The markers of frames of one pass: baseline, and extended to four tables of codes.
const FRAMES: [u8; 2] = [0xc0, 0xc1];

/// The marker of tables of codes.
const CODES: u8 = 0xc4;

/// The marker of tables that coefficients were divided by.
const DIVISORS: u8 = 0xdb;

/// The marker of EXIF blocks, among others' ones.
const EXIF: u8 = 0xe1;

/// The marker of Adobe's block, among others' ones.
const ADOBE: u8 = 0xee;

/// Where Adobe's block says of which kind the colours are, and its number of YCbCr.
const YCBCR: (usize, u8) = (11, 1);

/// The marker of how many units there are between two restarts.
const RESTARTS: u8 = 0xdd;

/// A picture's component: brightness, or a difference of colour.
pub struct Component {
    id: u8,
    /// Blocks of a unit, across and down.
    pub blocks: (usize, usize),
    /// Which table its coefficients were divided by.
    pub divisors: usize,
    /// Which codes its means have, and its other coefficients.
    pub codes: (usize, usize),
}

/// The numbers that coefficients were divided by, in the order of the file.
pub type Divisors = [u16; 64];

/// A picture of one scan, before its bits.
#[derive(Default)]
pub struct Frame<'a> {
    pub width: usize,
    pub height: usize,
    pub components: Vec<Component>,
    pub divisors: [Option<Divisors>; 4],
    pub means: [Option<Rc<Codes>>; 4],
    pub coefficients: [Option<Rc<Codes>>; 4],
    /// Units between two restarts; 0 where there are none.
    pub restart_after: usize,
    /// The last EXIF block, with what it begins with.
    exif: Option<&'a [u8]>,
}

impl<'a> Frame<'a> {
    /// Reads what stands before the first scan, and gives what follows. None for a kind that is not the usual one of cameras: one scan of
    /// eight bits in the order of the picture, by Huffman's codes, grey or YCbCr with colours at a half of the size at least.
    pub fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut frame = Self::default();
        let mut rest = bytes.strip_prefix(&[0xff, START])?;
        loop {
            let (marker, content, behind) = segment(rest)?;
            match marker {
                marker if FRAMES.contains(&marker) => frame.start(content)?,
                CODES => frame.codes(content)?,
                DIVISORS => frame.tables(content)?,
                RESTARTS => frame.restart_after = usize::from(u16::from_be_bytes(content.try_into().ok()?)),
                SCAN => {
                    frame.scan(content)?;
                    return Some((frame, behind));
                }
                EXIF if content.starts_with(orientation::EXIF) && content.len() > orientation::EXIF.len() => {
                    frame.exif = Some(content);
                }
                // Of colours that are none of YCbCr decoders have different opinions, and zune-jpeg's counts.
                ADOBE if content.starts_with(b"Adobe") => (content.get(YCBCR.0) == Some(&YCBCR.1)).then_some(())?,
                // What else applications and people wrote into it.
                0xe0..=0xef | 0xfe => {}
                _ => return None,
            }
            rest = behind;
        }
    }

    /// How its EXIF block says that it is to be turned; not at all where there is none or it makes no sense.
    pub fn orientation(&self) -> Orientation {
        orientation::in_exif(self.exif)
    }

    fn start(&mut self, content: &[u8]) -> Option<()> {
        let (&[8, h0, h1, w0, w1, count], rest) = content.split_first_chunk()? else { return None };
        (self.height, self.width) = (u16::from_be_bytes([h0, h1]).into(), u16::from_be_bytes([w0, w1]).into());
        let components = rest.as_chunks::<3>().0.iter().map(|&[id, blocks, divisors]| {
            let blocks = (usize::from(blocks >> 4), usize::from(blocks & 15));
            Component { id, blocks, divisors: divisors.into(), codes: (0, 0) }
        });
        let again = !self.components.is_empty();
        self.components = components.collect();
        let whole = rest.len() == 3 * usize::from(count) && self.width > 0 && self.height > 0;
        let usual = match self.components.as_mut_slice() {
            // Alone, a component has one block in each unit, whatever it says.
            [grey] => {
                grey.blocks = (1, 1);
                true
            }
            [brightness, blue, red] => {
                let halves = |blocks| (1..=2).contains(&blocks);
                halves(brightness.blocks.0)
                    && halves(brightness.blocks.1)
                    && blue.blocks == (1, 1)
                    && red.blocks == (1, 1)
            }
            _ => false,
        };
        (whole && usual && !again).then_some(())
    }

    fn codes(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&which, rest)) = content.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let (symbols, behind) = rest.split_at_checked(counts.iter().map(|&count| usize::from(count)).sum())?;
            let place = usize::from(which & 15);
            match which >> 4 {
                0 => *self.means.get_mut(place)? = Some(Codes::of_means(*counts, symbols)?),
                1 => *self.coefficients.get_mut(place)? = Some(Codes::of_waves(*counts, symbols)?),
                _ => return None,
            }
            content = behind;
        }
        Some(())
    }

    fn tables(&mut self, mut content: &[u8]) -> Option<()> {
        while let Some((&which, rest)) = content.split_first() {
            let mut divisors = [0; 64];
            let behind = match which >> 4 {
                0 => {
                    let (bytes, behind) = rest.split_first_chunk::<64>()?;
                    divisors = bytes.map(u16::from);
                    behind
                }
                1 => {
                    let (bytes, behind) = rest.split_first_chunk::<128>()?;
                    for (divisor, pair) in divisors.iter_mut().zip(bytes.as_chunks().0) {
                        *divisor = u16::from_be_bytes(*pair);
                    }
                    behind
                }
                _ => return None,
            };
            *self.divisors.get_mut(usize::from(which & 15))? = Some(divisors);
            content = behind;
        }
        Some(())
    }

    fn scan(&mut self, content: &[u8]) -> Option<()> {
        let (&count, rest) = content.split_first()?;
        let (pairs, progress) = rest.split_at_checked(2 * usize::from(count))?;
        // All components, and all of their coefficients at once.
        if usize::from(count) != self.components.len() || progress != [0, 63, 0] {
            return None;
        }
        for (component, [id, codes]) in self.components.iter_mut().zip(pairs.as_chunks().0) {
            if component.id != *id {
                return None;
            }
            component.codes = (usize::from(codes >> 4), usize::from(codes & 15));
        }
        Some(())
    }
}

/// The first segment's marker and content, and what is behind it.
fn segment(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let fill = bytes.iter().take_while(|byte| **byte == 0xff).count();
    let (&marker, rest) = bytes.get(fill..)?.split_first()?;
    let (length, _) = rest.split_first_chunk()?;
    let (content, behind) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    (fill > 0).then_some((marker, content.get(2..)?, behind))
}
