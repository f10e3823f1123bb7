//! The codes of a scan: numbers of bits that are frequent have short ones.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use super::bits::{Bits, REFILLED};

/// Bits that are looked up at once.
const LOOKED_UP: u32 = 11;

/// What a look-up of so many bits tells, one for each number that they may be.
type Table<T> = [T; 1 << LOOKED_UP];

/// The coefficients of a block.
const BLOCK: u32 = 64;

/// Steps that lead out of any block.
const END: u32 = 2 * BLOCK;

/// Look-ups for which there are bits.
const LOOKUPS: u32 = REFILLED / LOOKED_UP;

/// The longest code.
const LONGEST: usize = 16;

/// Bits of the longest code and those behind it.
const CODE: u32 = LONGEST as u32 + MOST.0;

/// The most bits that a mean's difference has, of pixels of eight, and any other coefficient.
const MOST: (u32, u32) = (11, 10);

/// A code's symbol: `run` coefficients that are 0 (the upper half of the byte), and bits of the one behind them (the lower).
#[derive(Clone, Copy)]
struct Symbol(u8);

impl Symbol {
    /// Bits behind the code.
    fn size(self) -> u32 {
        u32::from(self.0 & 15)
    }

    /// How far it leads in a block, `END` where that ends with it. None where it is no coefficient's: without bits it is the end (0) or sixteen zeros.
    fn steps(self) -> Option<u32> {
        match self.0 {
            0 => Some(END),
            byte => (byte == 0xf0 || self.size() > 0).then_some(u32::from(byte >> 4) + 1),
        }
    }
}

/// What the bits that are looked up begin with.
#[derive(Clone, Copy, Default)]
struct Begin {
    /// A coefficient; or the symbol of one whose bits are more than are looked up.
    value: i16,
    /// Coefficients, those that are 0 before it and itself; `END` at a block's end. Of a symbol: the bits of its code, 0 where those are more,
    /// too.
    steps: u8,
    /// Bits of it all; 0 where it is a symbol.
    bits: u8,
}

/// What is passed over where nobody wants the coefficients: as many of them as the bits that are looked up tell.
#[derive(Clone, Copy, Default)]
struct Skip {
    bits: u8,
    /// Coefficients, and one more where the block ends behind them.
    steps: u8,
    /// What they lead to beyond that: out of the block where it ends.
    beyond: u16,
}

/// A Huffman table: the codes of means, or those of all other coefficients.
pub struct Codes {
    counts: [u8; LONGEST],
    symbols: Vec<u8>,
    /// For each length: one more than its last code, at the upper end of 16 bits, and what its codes are ahead of their places among the symbols.
    lengths: [(u32, u32); LONGEST],
    begins: Table<Begin>,
    /// Made when they are first asked for: a picture that is decoded whole has no use for them.
    skips: OnceCell<Box<Table<Skip>>>,
}

thread_local! {
    /// Those of the pictures before: a camera's have all the same, and to make them takes a quarter of a small picture's time.
    static KNOWN: RefCell<Vec<Rc<Codes>>> = const { RefCell::new(Vec::new()) };
}

/// How many tables are kept: a picture has four.
const KEPT: usize = 8;

impl Codes {
    /// The codes of means: `counts` of 1 to 16 bits. None where more are told than there are, or one has more bits behind it than pixels of eight
    /// need.
    pub fn of_means(counts: [u8; LONGEST], symbols: &[u8]) -> Option<Rc<Self>> {
        symbols.iter().all(|&symbol| u32::from(symbol) <= MOST.0).then(|| Self::get(counts, symbols))?
    }

    /// The codes of the other coefficients.
    pub fn of_waves(counts: [u8; LONGEST], symbols: &[u8]) -> Option<Rc<Self>> {
        symbols.iter().all(|&symbol| Symbol(symbol).size() <= MOST.1).then(|| Self::get(counts, symbols))?
    }

    fn get(counts: [u8; LONGEST], symbols: &[u8]) -> Option<Rc<Self>> {
        KNOWN.with_borrow_mut(|known| {
            if let Some(found) = known.iter().find(|one| one.counts == counts && one.symbols == symbols) {
                return Some(Rc::clone(found));
            }
            let made = Rc::new(Self::new(counts, symbols)?);
            known.truncate(KEPT - 1);
            known.insert(0, Rc::clone(&made));
            Some(made)
        })
    }

    fn new(counts: [u8; LONGEST], symbols: &[u8]) -> Option<Self> {
        let mut codes = Self {
            counts,
            symbols: symbols.to_vec(),
            lengths: [(0, 0); LONGEST],
            begins: [Begin::default(); 1 << LOOKED_UP],
            skips: OnceCell::new(),
        };
        let (mut code, mut place) = (0_u32, 0_u32);
        for (length, &count) in (1..).zip(&counts) {
            let first = code;
            for _ in 0..count {
                let symbol = Symbol(*symbols.get(place as usize)?);
                if code >= 1 << length {
                    return None;
                }
                if let Some(rest) = LOOKED_UP.checked_sub(length) {
                    let from = (code << rest) as usize;
                    begin(&mut codes.begins[from..][..1 << rest], symbol, length, rest);
                }
                (code, place) = (code + 1, place + 1);
            }
            codes.lengths[length as usize - 1] =
                (code << (LONGEST as u32 - length), first.wrapping_sub(place - u32::from(count)));
            code <<= 1;
        }
        Some(codes)
    }

    /// The symbol of a code which is longer than a look-up, and its bits.
    #[cold]
    #[inline(never)]
    fn long(&self, sixteen: u32) -> Option<(Symbol, u32)> {
        let length = (LOOKED_UP as usize..LONGEST).find(|&length| sixteen < self.lengths[length].0)?;
        let code = sixteen >> (LONGEST - 1 - length);
        let byte = *self.symbols.get(code.wrapping_sub(self.lengths[length].1) as usize)?;
        Some((Symbol(byte), length as u32 + 1))
    }

    /// What the next code tells: steps and a value, whose bits are passed over. None where there is no such code. It reads [`CODE`] bits at most.
    #[inline(always)]
    fn next(&self, bits: &mut Bits) -> Option<(u32, i32)> {
        let begin = self.begins[bits.peek(LOOKED_UP)];
        if begin.bits > 0 {
            bits.pass(begin.bits.into());
            return Some((begin.steps.into(), begin.value.into()));
        }
        let (symbol, length) = match begin.steps {
            0 => self.long(bits.peek(LONGEST as u32) as u32)?,
            length => (Symbol(begin.value as u8), length.into()),
        };
        bits.pass(length);
        Some((symbol.steps()?, value(bits, symbol.size())))
    }

    /// What a block's mean differs from that of the one before.
    #[inline(always)]
    pub fn difference(&self, bits: &mut Bits) -> Option<i32> {
        bits.refill();
        Some(self.next(bits)?.1)
    }

    /// A block's coefficients 1 to `last` in the order of the file, each that is not 0 given to `take` (and some that are); the others are passed
    /// over. None where they are not whole.
    #[inline(always)]
    pub fn read(&self, bits: &mut Bits, last: u32, mut take: impl FnMut(usize, i32)) -> Option<()> {
        let (whole, mut next) = (bits, 1);
        let mut bits = *whole;
        'taken: while next <= last {
            bits.refill();
            for _ in 0..REFILLED / CODE {
                let (steps, value) = self.next(&mut bits)?;
                next += steps;
                if next > last {
                    if next - 1 == last {
                        take(last as usize, value);
                    }
                    break 'taken;
                }
                take(next as usize - 1, value);
            }
        }
        if next < BLOCK {
            let skips = self.skips.get_or_init(|| Box::new(std::array::from_fn(|index| skipped(&self.begins, index))));
            while next < BLOCK {
                bits.refill();
                if !skip(skips, &mut bits, &mut next) {
                    next += self.next(&mut bits)?.0;
                    continue;
                }
                for _ in 1..LOOKUPS {
                    if next >= BLOCK || !skip(skips, &mut bits, &mut next) {
                        break;
                    }
                }
            }
        }
        *whole = bits;
        (next == BLOCK || next >= END).then_some(())
    }
}

/// Passes over what the next bits tell of the block; false where that is nothing, or more than the block has.
#[inline(always)]
fn skip(skips: &Table<Skip>, bits: &mut Bits, next: &mut u32) -> bool {
    let skip = skips[bits.peek(LOOKED_UP)];
    let behind = *next + u32::from(skip.steps);
    // What follows the last coefficient belongs to the next block, and where that one is told there is no end.
    let is_of_block = skip.bits > 0 && behind <= BLOCK;
    if is_of_block {
        bits.pass(u32::from(skip.bits));
        *next = behind + u32::from(skip.beyond);
    }
    is_of_block
}

/// The number that so many bits stand for, which are passed over.
#[inline(always)]
fn value(bits: &mut Bits, size: u32) -> i32 {
    if size == 0 {
        return 0;
    }
    let read = bits.peek(size);
    bits.pass(size);
    extended(read, size)
}

/// Without their highest bit they are negative; of none it is 0.
fn extended(read: usize, size: u32) -> i32 {
    let least = 1 << size >> 1;
    if (read as i32) < least { read as i32 - (1 << size) + 1 } else { read as i32 }
}

/// Fills the look-ups that begin with a code of `length` bits, behind which so many are left.
fn begin(begins: &mut [Begin], symbol: Symbol, length: u32, left: u32) {
    match (symbol.steps(), left.checked_sub(symbol.size())) {
        (Some(steps), Some(behind)) => {
            for (read, begins) in begins.chunks_exact_mut(1 << behind).enumerate() {
                let value = extended(read, symbol.size()) as i16;
                begins.fill(Begin { value, steps: steps as u8, bits: (LOOKED_UP - behind) as u8 });
            }
        }
        _ => begins.fill(Begin { value: symbol.0.into(), steps: length as u8, bits: 0 }),
    }
}

fn skipped(begins: &Table<Begin>, index: usize) -> Skip {
    let mut skip = Skip::default();
    while skip.beyond == 0 {
        // The bits behind the last are taken for zeros, which matters to no code that ends before.
        let found = begins[index << skip.bits & ((1 << LOOKED_UP) - 1)];
        let (bits, is_end) = (skip.bits + found.bits, u32::from(found.steps) == END);
        let steps = if is_end { skip.steps + 1 } else { skip.steps + found.steps };
        if found.bits == 0 || u32::from(bits) > LOOKED_UP || u32::from(steps) > BLOCK {
            break;
        }
        skip = Skip { bits, steps, beyond: if is_end { END as u16 } else { 0 } };
    }
    skip
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One code of one bit and one of two.
    const TWO: [u8; LONGEST] = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn tables_are_known_again_by_all_that_they_say_and_a_few_are_kept() {
        let get = |symbol: u8| Codes::of_waves(TWO, &[0, symbol]).unwrap();
        let first = get(0x01);
        assert!(Rc::ptr_eq(&first, &get(0x01)));
        assert!(!Rc::ptr_eq(&first, &get(0x02)), "the same lengths, another symbol");
        let kept = |known: &RefCell<Vec<_>>| known.borrow().len();
        assert_eq!(KNOWN.with(kept), 2);
        for symbol in 0x03..=0x0a {
            let _other = get(symbol);
        }
        assert_eq!(KNOWN.with(kept), KEPT);
        assert!(!Rc::ptr_eq(&first, &get(0x01)));
    }

    #[test]
    fn codes_with_more_bits_behind_them_than_pixels_of_eight_need_are_none() {
        let taken = |symbol: u8| {
            let symbols = [0, symbol];
            (Codes::of_means(TWO, &symbols).is_some(), Codes::of_waves(TWO, &symbols).is_some())
        };
        assert_eq!(
            [0x0a, 0x0b, 0x0c, 0xfa, 0xfb].map(taken),
            [(true, true), (true, false), (false, false), (false, true), (false, false)]
        );
    }

    #[test]
    fn what_is_passed_over_at_once_ends_with_its_block() {
        // 0: the end; 10 and a bit: a coefficient of 1 or -1 with nothing before it.
        let codes = Codes::of_waves(TWO, &[0, 0x01]).unwrap();
        let read = |bytes: &[u8], last: u32| {
            let (mut bits, mut taken) = (Bits::new(bytes), Vec::new());
            codes.read(&mut bits, last, |index, value| taken.push((index, value)))?;
            // What is left, which must be the next block's.
            bits.refill();
            Some((taken, bits.peek(8)))
        };
        // 101 100 0, and a one, so that the place is known.
        assert_eq!(read(&[0b1011_0001, 0x80], 2), Some((vec![(1, 1), (2, -1)], 0b1100_0000)));
        assert_eq!(read(&[0b1011_0001, 0x80], 1), Some((vec![(1, 1)], 0b1100_0000)));
        assert_eq!(read(&[0b1011_0001, 0x80], 0), Some((vec![], 0b1100_0000)));
        // All 63 of them: no end behind them, and what follows is not of this block.
        let full: Vec<u8> = [0b1011_0110, 0b1101_1011, 0b0110_1101].into_iter().cycle().take(24).collect();
        let (taken, rest) = read(&full, 24).unwrap();
        assert_eq!((taken.len(), taken[23]), (24, (24, 1)));
        assert_eq!(rest, usize::from(full[23] << 5), "63 codes of three bits end three bits before the last byte does");
        // A code that there is none for.
        assert_eq!(read(&[0b1111_1110, 0], 0), None);
    }
}
