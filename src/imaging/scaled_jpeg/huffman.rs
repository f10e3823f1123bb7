//! The codes of a scan: numbers of bits that are frequent have short ones.

use std::cell::RefCell;
use std::rc::Rc;

use super::bits::Bits;

/// Bits that are looked up at once.
const LOOKED_UP: u32 = 11;

/// What a look-up of so many bits tells, one for each number that they may be.
type Table<T> = [T; 1 << LOOKED_UP];

/// The coefficients of a block.
const BLOCK: u32 = 64;

/// The longest code.
const LONGEST: usize = 16;

/// A code's symbol: `run` coefficients that are 0 (the upper half of the byte), and bits of the one behind them (the lower).
#[derive(Clone, Copy, Default)]
struct Symbol {
    byte: u8,
    /// Bits of the code itself; 0 where there is none so short.
    length: u8,
}

impl Symbol {
    /// Bits behind the code.
    fn size(self) -> u32 {
        u32::from(self.byte & 15)
    }

    /// How far it leads in a block, `END` where that ends with it. None where it is no coefficient's: without bits it is the end (0) or sixteen zeros.
    fn steps(self) -> Option<u32> {
        match self.byte {
            0 => Some(END),
            byte => (byte == 0xf0 || self.size() > 0).then_some(u32::from(byte >> 4) + 1),
        }
    }
}

/// Steps that lead out of any block.
const END: u32 = 2 * BLOCK;

/// A Huffman table, as its segment tells it.
pub struct Codes {
    symbols: Vec<u8>,
    /// For each length: one more than its last code, at the upper end of 16 bits, and what its codes are ahead of their places among the symbols.
    lengths: [(u32, u32); LONGEST],
    short: Table<Symbol>,
}

impl Codes {
    /// Of `counts` codes of 1 to 16 bits. None where more are told than there are.
    pub fn new(counts: [u8; LONGEST], symbols: &[u8]) -> Option<Self> {
        let mut codes =
            Self { symbols: symbols.to_vec(), lengths: [(0, 0); LONGEST], short: [Symbol::default(); 1 << LOOKED_UP] };
        let (mut code, mut place) = (0_u32, 0_u32);
        for (length, &count) in (1..).zip(&counts) {
            let first = code;
            for _ in 0..count {
                let byte = *symbols.get(place as usize)?;
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOKED_UP {
                    let from = (code << (LOOKED_UP - length)) as usize;
                    codes.short[from..][..1 << (LOOKED_UP - length)].fill(Symbol { byte, length: length as u8 });
                }
                (code, place) = (code + 1, place + 1);
            }
            codes.lengths[length as usize - 1] =
                (code << (LONGEST as u32 - length), first.wrapping_sub(place - u32::from(count)));
            code <<= 1;
        }
        Some(codes)
    }

    /// The next code's symbol, which is passed over; none where there is no such code.
    #[inline(always)]
    fn next(&self, bits: &mut Bits) -> Option<Symbol> {
        let short = self.short[bits.peek(LOOKED_UP)];
        let symbol = if short.length > 0 { short } else { self.long(bits.peek(LONGEST as u32) as u32)? };
        bits.pass(u32::from(symbol.length));
        Some(symbol)
    }

    /// That of a code which is longer than a look-up.
    #[cold]
    fn long(&self, sixteen: u32) -> Option<Symbol> {
        let length = (LOOKED_UP as usize..LONGEST).find(|&length| sixteen < self.lengths[length].0)?;
        let code = sixteen >> (LONGEST - 1 - length);
        let byte = *self.symbols.get(code.wrapping_sub(self.lengths[length].1) as usize)?;
        Some(Symbol { byte, length: length as u8 + 1 })
    }

    /// What a block's mean differs from that of the one before.
    #[inline(always)]
    pub fn difference(&self, bits: &mut Bits) -> Option<i32> {
        bits.refill();
        let symbol = self.next(bits)?;
        // Twelve bits are enough for pixels of eight.
        if symbol.byte > 11 {
            return None;
        }
        Some(value(bits, symbol.size()))
    }
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

/// A coefficient that is told within the bits that are looked up.
#[derive(Clone, Copy, Default)]
struct Coefficient {
    value: i16,
    /// Coefficients, those that are 0 before it and itself; `END` at a block's end.
    steps: u8,
    /// Bits of it all; 0 where they are more.
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

/// The codes of all coefficients but the mean.
pub struct Coefficients {
    counts: [u8; LONGEST],
    codes: Codes,
    values: Table<Coefficient>,
    skips: Table<Skip>,
}

thread_local! {
    /// Those of the pictures before: a camera's have all the same, and to make them takes a quarter of a small picture's time.
    static KNOWN: RefCell<Vec<Rc<Coefficients>>> = const { RefCell::new(Vec::new()) };
}

/// How many tables are kept: a picture has two.
const KEPT: usize = 4;

impl Coefficients {
    /// Of `counts` codes of 1 to 16 bits. None where more are told than there are.
    pub fn get(counts: [u8; LONGEST], symbols: &[u8]) -> Option<Rc<Self>> {
        KNOWN.with_borrow_mut(|known| {
            if let Some(found) = known.iter().find(|one| one.counts == counts && one.codes.symbols == symbols) {
                return Some(Rc::clone(found));
            }
            let made = Rc::new(Self::new(counts, Codes::new(counts, symbols)?));
            known.truncate(KEPT - 1);
            known.insert(0, Rc::clone(&made));
            Some(made)
        })
    }

    fn new(counts: [u8; LONGEST], codes: Codes) -> Self {
        let values = std::array::from_fn(|index| coefficient(&codes.short, index));
        let skips = std::array::from_fn(|index| skipped(&values, index));
        Self { counts, codes, values, skips }
    }

    /// A block's coefficients 1 to `last` in the order of the file, each that is not 0 given to `take`; the others are passed over. None where
    /// they are not whole.
    #[inline(always)]
    pub fn read(&self, bits: &mut Bits, last: u32, mut take: impl FnMut(usize, i32)) -> Option<()> {
        let (whole, mut next) = (bits, 1);
        let mut bits = *whole;
        while next <= last {
            bits.refill();
            // Twice, as there are bits enough for two look-ups.
            if !self.value(&mut bits, &mut next, last, &mut take) {
                let (behind, steps, value) = self.one(bits)?;
                bits = behind;
                next += steps;
                if next - 1 <= last {
                    take(next as usize - 1, value);
                }
            } else if next <= last {
                self.value(&mut bits, &mut next, last, &mut take);
            }
        }
        while next < BLOCK {
            bits.refill();
            // Twice, as there are bits enough for two look-ups.
            if !self.skip(&mut bits, &mut next) {
                let (behind, steps, _) = self.one(bits)?;
                (bits, next) = (behind, next + steps);
            } else if next < BLOCK {
                self.skip(&mut bits, &mut next);
            }
        }
        *whole = bits;
        (next == BLOCK || next >= END).then_some(())
    }

    /// Takes the coefficient that the next bits tell; false where they are not enough.
    #[inline(always)]
    fn value(&self, bits: &mut Bits, next: &mut u32, last: u32, take: &mut impl FnMut(usize, i32)) -> bool {
        let found = self.values[bits.peek(LOOKED_UP)];
        if found.bits == 0 {
            return false;
        }
        bits.pass(u32::from(found.bits));
        *next += u32::from(found.steps);
        if *next - 1 <= last {
            take(*next as usize - 1, i32::from(found.value));
        }
        true
    }

    /// Passes over what the next bits tell of the block; false where that is nothing, or more than the block has.
    #[inline(always)]
    fn skip(&self, bits: &mut Bits, next: &mut u32) -> bool {
        let skip = self.skips[bits.peek(LOOKED_UP)];
        let behind = *next + u32::from(skip.steps);
        // What follows the last coefficient belongs to the next block, and where that one is told there is no end.
        let is_of_block = skip.bits > 0 && behind <= BLOCK;
        if is_of_block {
            bits.pass(u32::from(skip.bits));
            *next = behind + u32::from(skip.beyond);
        }
        is_of_block
    }

    /// One coefficient by its code: the bits behind it, its steps and its value.
    #[cold]
    #[inline(never)]
    fn one<'a>(&self, mut bits: Bits<'a>) -> Option<(Bits<'a>, u32, i32)> {
        let symbol = self.codes.next(&mut bits)?;
        let (steps, value) = (symbol.steps()?, value(&mut bits, symbol.size()));
        Some((bits, steps, value))
    }
}

fn coefficient(short: &Table<Symbol>, index: usize) -> Coefficient {
    let symbol = short[index];
    let (length, size) = (u32::from(symbol.length), symbol.size());
    match symbol.steps() {
        Some(steps) if length > 0 && length + size <= LOOKED_UP => {
            let behind = index >> (LOOKED_UP - length - size) & ((1 << size) - 1);
            Coefficient { value: extended(behind, size) as i16, steps: steps as u8, bits: (length + size) as u8 }
        }
        _ => Coefficient::default(),
    }
}

fn skipped(values: &Table<Coefficient>, index: usize) -> Skip {
    let mut skip = Skip::default();
    while skip.beyond == 0 {
        // The bits behind the last are taken for zeros, which matters to no code that ends before.
        let found = values[index << skip.bits & ((1 << LOOKED_UP) - 1)];
        let (bits, is_end) = (skip.bits + found.bits, u32::from(found.steps) == END);
        let steps = skip.steps + if is_end { 1 } else { found.steps };
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
        let get = |symbol: u8| Coefficients::get(TWO, &[0, symbol]).unwrap();
        let first = get(0x01);
        assert!(Rc::ptr_eq(&first, &get(0x01)));
        assert!(!Rc::ptr_eq(&first, &get(0x02)), "the same lengths, another symbol");
        let kept = |known: &RefCell<Vec<_>>| known.borrow().len();
        assert_eq!(KNOWN.with(kept), 2);
        for symbol in 0x03..0x09 {
            let _other = get(symbol);
        }
        assert_eq!(KNOWN.with(kept), KEPT);
        assert!(!Rc::ptr_eq(&first, &get(0x01)));
    }

    #[test]
    fn what_is_passed_over_at_once_ends_with_its_block() {
        // 0: the end; 10 and a bit: a coefficient of 1 or -1 with nothing before it.
        let coefficients = Coefficients::get(TWO, &[0, 0x01]).unwrap();
        let read = |bytes: &[u8], last: u32| {
            let (mut bits, mut taken) = (Bits::new(bytes), Vec::new());
            coefficients.read(&mut bits, last, |index, value| taken.push((index, value)))?;
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
