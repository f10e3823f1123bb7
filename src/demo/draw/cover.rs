//! What is at the lower face: a mask worn as it should be, or one of the many things that only look like
//! one. Without the latter, "the lower face is not skin" would decide every picture.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::mask::Mask;
use super::painter::Painter;
use super::person::{Person, between, hex, hue, pick};

/// What chance puts before a face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cover {
    /// A bare face.
    Nothing,
    /// A mask over mouth and nose: the only masked one.
    Worn,
    /// A mask under the chin.
    UnderChin,
    /// A mask that hangs from one ear.
    OneEar,
    /// A beard that covers the jaw.
    Beard,
    /// Lips in a colour of their own.
    Lipstick,
    /// A scarf up to the lower lip.
    Scarf,
    /// A hand before the mouth.
    Hand,
    /// A mug at the lips.
    Mug,
    /// Paper held up to the nose.
    Sheet,
    /// A phone before the mouth.
    Phone,
}

/// The covers of a face without a mask, with how often each occurs among a hundred.
const UNMASKED: [(Cover, u32); 10] = [
    (Cover::Nothing, 54),
    (Cover::UnderChin, 7),
    (Cover::OneEar, 3),
    (Cover::Beard, 8),
    (Cover::Lipstick, 5),
    (Cover::Scarf, 7),
    (Cover::Hand, 7),
    (Cover::Mug, 3),
    (Cover::Sheet, 3),
    (Cover::Phone, 3),
];

impl Cover {
    /// Draws a cover.
    pub fn choose(rng: &mut ChaCha8Rng, masked: bool) -> Self {
        if masked {
            return Self::Worn;
        }
        let mut ticket = rng.random_range(0..UNMASKED.iter().map(|(_, share)| share).sum());
        for (cover, share) in UNMASKED {
            if ticket < share {
                return cover;
            }
            ticket -= share;
        }
        Self::Nothing
    }

    /// Changes the person to fit.
    pub fn prepare(self, rng: &mut ChaCha8Rng, person: &mut Person) {
        if self == Self::Lipstick {
            person.beard = None;
            let bold =
                [hex(0x2A1018), hex(0x5A0F1E), hex(0x3B1440), hex(0x1C2440), hue(between(rng, 0.9, 1.0), 0.85, 0.6)];
            person.lips = pick(rng, &bold);
            person.mouth_width *= 1.15;
        }
    }
}

impl Painter<'_> {
    /// Draws what lies on the face itself, below glasses and hats.
    pub(super) fn cover_face(&mut self, rng: &mut ChaCha8Rng, cover: Cover) {
        // Scarves are worn with and without masks.
        match cover {
            Cover::Scarf => {
                let height = between(rng, 0.7, 0.9);
                self.scarf(rng, height);
            }
            _ if rng.random_bool(0.09) => {
                let height = between(rng, 0.96, 1.1);
                self.scarf(rng, height);
            }
            _ => {}
        }
        match cover {
            Cover::Worn => self.worn(&Mask::new(rng, self.person)),
            Cover::UnderChin => self.under_chin(&Mask::new(rng, self.person)),
            _ => {}
        }
    }

    /// Draws what is held or hangs before everything else.
    pub(super) fn cover_front(&mut self, rng: &mut ChaCha8Rng, cover: Cover) {
        match cover {
            Cover::OneEar => {
                let side = if self.person.yaw > 0.0 { -1.0 } else { 1.0 };
                self.hanging(&Mask::new(rng, self.person), side);
            }
            Cover::Hand => self.hand(rng),
            Cover::Mug => self.mug(rng),
            Cover::Sheet => self.sheet(rng),
            Cover::Phone => self.phone(rng),
            _ if rng.random_bool(0.08) => self.hand_nearby(rng),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn only_a_worn_mask_is_masked_and_every_decoy_occurs() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(Cover::choose(&mut rng, true), Cover::Worn);
        let drawn: Vec<Cover> = (0..1000).map(|_| Cover::choose(&mut rng, false)).collect();
        assert!(!drawn.contains(&Cover::Worn));
        for (cover, share) in UNMASKED {
            let count = drawn.iter().filter(|&&other| other == cover).count() as u32;
            assert!(count > share * 10 / 2 && count < share * 10 * 2, "{cover:?}: {count}");
        }
    }
}
