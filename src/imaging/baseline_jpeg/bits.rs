//! The bits of a scan: of escaped bytes the escape is left out, and at a marker they end.

/// Every byte's highest bit.
const HIGHEST: u64 = 0x8080_8080_8080_8080;

/// How many bits [`Bits::refill`] makes sure of.
pub const REFILLED: u32 = 56;

/// Reads bits from the highest of each byte on. Copied for the length of a block, so that it is in registers: what has a pointer to it
/// would keep it in memory.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte that is not in `buffer`.
    at: usize,
    /// The next bit is the highest.
    buffer: u64,
    /// How many of `buffer` are there.
    count: u32,
    /// Bits in `buffer`, the last of them, that stand for what is not there.
    missing: u32,
}

impl<'a> Bits<'a> {
    /// Those of a scan whose first byte is the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, count: 0, missing: 0 }
    }

    /// Makes sure that [`REFILLED`] bits can be looked at: any two codes and the bits that belong to them. Behind the last they are zeros.
    #[inline(always)]
    pub fn refill(&mut self) {
        if let Some(eight) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            let eight = u64::from_be_bytes(*eight);
            // Whether one of the bytes is 0xff: its lower bits carry into the highest, which is set.
            if eight & HIGHEST & ((eight & !HIGHEST) + (!HIGHEST / 0x7f)) == 0 {
                let bytes = (63 - self.count) / 8;
                self.buffer |= eight >> self.count;
                self.at += bytes as usize;
                self.count += 8 * bytes;
                // Of a byte that did not fit, what did is not counted, and is laid over itself the next time.
                return;
            }
        }
        *self = self.refilled_slowly();
    }

    #[cold]
    #[inline(never)]
    fn refilled_slowly(mut self) -> Self {
        // What lies behind the bits that are counted.
        self.buffer &= !(u64::MAX >> self.count);
        while self.count < REFILLED {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.missing += 8;
                    0
                }
                (Some(byte), _) => {
                    self.at += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    /// The next bits, 1 to 32 of them.
    #[inline(always)]
    pub fn peek(&self, bits: u32) -> usize {
        (self.buffer >> (64 - bits)) as usize
    }

    /// Passes over so many bits of those that [`Bits::refill`] made sure of.
    #[inline(always)]
    pub fn pass(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// Whether bits were read that are not there.
    pub fn overread(&self) -> bool {
        self.missing > self.count
    }

    /// Goes on behind the restart marker of this number, 0 to 7, which comes after the bits that were read. None where it does not.
    pub fn restart(&mut self, number: u8) -> Option<()> {
        if self.overread() {
            return None;
        }
        // What is left of a byte is padding; whole ones would be something else.
        if self.count - self.missing >= 8 {
            return None;
        }
        let fill = self.bytes.get(self.at..)?.iter().take_while(|byte| **byte == 0xff).count();
        let marker = *self.bytes.get(self.at + fill)?;
        if fill == 0 || marker != 0xd0 + number {
            return None;
        }
        *self = Self { bytes: self.bytes, at: self.at + fill + 1, buffer: 0, count: 0, missing: 0 };
        Some(())
    }
}
