//! Who is drawn: everything about a face that chance decides, before the first stroke.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::raster::{Colour, Point, mix, times};

/// A number between two others.
pub fn between(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.random::<f32>()
}

/// One of several.
pub fn pick<T: Copy>(rng: &mut ChaCha8Rng, choices: &[T]) -> T {
    choices[rng.random_range(0..choices.len())]
}

/// A colour from its six hexadecimal digits.
pub const fn hex(digits: u32) -> Colour {
    [((digits >> 16) & 255) as f32 / 255.0, ((digits >> 8) & 255) as f32 / 255.0, (digits & 255) as f32 / 255.0]
}

/// A colour of any hue, as full and as light as asked.
pub fn hue(turn: f32, saturation: f32, value: f32) -> Colour {
    let full = [5.0, 3.0, 1.0].map(|offset: f32| {
        let place = (offset + turn * 6.0) % 6.0;
        1.0 - place.min(4.0 - place).clamp(0.0, 1.0)
    });
    full.map(|channel| value * (1.0 - saturation + saturation * channel))
}

/// Clothes, masks and scarves may have any of these.
pub fn cloth(rng: &mut ChaCha8Rng) -> Colour {
    match rng.random_range(0..5) {
        0 => hue(rng.random(), between(rng, 0.0, 0.2), between(rng, 0.15, 0.95)),
        1 => times([1.0, 1.0, 1.0], between(rng, 0.1, 0.95)),
        _ => hue(rng.random(), between(rng, 0.25, 0.85), between(rng, 0.25, 0.9)),
    }
}

const SKINS: [Colour; 9] = [
    hex(0xF6D7C3),
    hex(0xEFC6A6),
    hex(0xE4B48F),
    hex(0xD5A077),
    hex(0xC08A5E),
    hex(0xA36F48),
    hex(0x835335),
    hex(0x653E28),
    hex(0x482B1D),
];

const HAIRS: [Colour; 10] = [
    hex(0x17120F),
    hex(0x2B1D16),
    hex(0x46301F),
    hex(0x6A4629),
    hex(0x8C5E33),
    hex(0xB98B4E),
    hex(0xDDBE83),
    hex(0x9C4A22),
    hex(0x8F8C88),
    hex(0xD9D6D0),
];

const IRISES: [Colour; 5] = [hex(0x3A2416), hex(0x5A3A20), hex(0x6E7F8E), hex(0x4F7FA6), hex(0x5F7A4A)];

/// How the hair is worn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hair {
    Bald,
    Cropped,
    Short,
    Parted,
    Fringe,
    Curls,
    Bob,
    Long,
    Bun,
}

/// What is on the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hat {
    Cap,
    Beanie,
    Brim,
    Headscarf,
}

/// Hair on the lower face.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beard {
    Stubble,
    Moustache,
    Goatee,
    Full,
}

/// A mouth's mood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mouth {
    Calm,
    Smile,
    Laugh,
    Open,
}

/// A pair of glasses.
#[derive(Clone, Copy, Debug)]
pub struct Glasses {
    pub frame: Colour,
    pub dark: bool,
    pub round: bool,
}

/// A head, turned this way.
#[derive(Clone, Debug)]
pub struct Person {
    pub skin: Colour,
    pub hair: Hair,
    pub hair_colour: Colour,
    pub hat: Option<(Hat, Colour)>,
    pub beard: Option<Beard>,
    pub glasses: Option<Glasses>,
    pub iris: Colour,
    pub brow: f32,
    pub eye_size: f32,
    pub eye_open: f32,
    pub gaze: f32,
    pub nose: f32,
    pub lips: Colour,
    pub mouth: Mouth,
    pub mouth_width: f32,
    /// Half the head's width; half its height is 1.
    pub width: f32,
    pub jaw: f32,
    pub chin: f32,
    pub yaw: f32,
    pub pitch: f32,
    pub clothes: Colour,
    pub neckline: u32,
    /// For textures.
    pub grain: u32,
    /// Where the light comes from.
    pub light: [f32; 3],
    /// Brightness of what the light does not reach.
    pub ambient: f32,
}

impl Person {
    /// Somebody new; `bearded` insists on a beard.
    pub fn new(rng: &mut ChaCha8Rng, bearded: bool) -> Self {
        let tone = between(rng, 0.0, (SKINS.len() - 1) as f32);
        let (dark, part) = (tone as usize, tone.fract());
        let skin = mix(SKINS[dark], SKINS[(dark + 1).min(SKINS.len() - 1)], part);
        let skin = mix(skin, hue(between(rng, 0.0, 0.12), 0.5, 0.8), between(rng, 0.0, 0.12));
        // Darker skins seldom come with fair hair.
        let shades = if tone > 4.0 && !rng.random_bool(0.15) { 3 } else { HAIRS.len() };
        let dyed = rng.random_bool(0.04);
        let hair_colour = if dyed {
            hue(rng.random(), 0.6, 0.7)
        } else {
            times(HAIRS[rng.random_range(0..shades)], between(rng, 0.85, 1.15))
        };
        let hair = pick(
            rng,
            &[
                Hair::Bald,
                Hair::Cropped,
                Hair::Short,
                Hair::Short,
                Hair::Parted,
                Hair::Parted,
                Hair::Fringe,
                Hair::Curls,
                Hair::Bob,
                Hair::Long,
                Hair::Long,
                Hair::Bun,
            ],
        );
        let hat = rng.random_bool(0.2).then(|| {
            let kind = pick(rng, &[Hat::Cap, Hat::Cap, Hat::Beanie, Hat::Beanie, Hat::Brim, Hat::Headscarf]);
            (kind, cloth(rng))
        });
        let feminine = matches!(hair, Hair::Bob | Hair::Long | Hair::Bun) || matches!(hat, Some((Hat::Headscarf, _)));
        let beard = if bearded {
            Some(pick(rng, &[Beard::Full, Beard::Full, Beard::Full, Beard::Goatee, Beard::Moustache]))
        } else if !feminine && rng.random_bool(0.3) {
            Some(pick(rng, &[Beard::Stubble, Beard::Stubble, Beard::Moustache, Beard::Goatee, Beard::Full]))
        } else {
            None
        };
        let glasses = rng.random_bool(0.25).then(|| Glasses {
            frame: if rng.random_bool(0.6) { times([1.0; 3], between(rng, 0.05, 0.25)) } else { cloth(rng) },
            dark: rng.random_bool(0.25),
            round: rng.random_bool(0.5),
        });
        let natural = mix(times(skin, 0.82), hex(0xA8404A), 0.35);
        let lips = if feminine && rng.random_bool(0.5) {
            mix(natural, hue(between(rng, 0.92, 1.0), 0.75, 0.75), 0.7)
        } else {
            natural
        };
        let side = between(rng, -1.0, 1.0);
        Self {
            skin,
            hair,
            hair_colour,
            hat,
            beard,
            glasses,
            iris: pick(rng, &IRISES[..if tone > 4.0 { 2 } else { 5 }]),
            brow: between(rng, 0.035, 0.085),
            eye_size: between(rng, 0.85, 1.15),
            eye_open: if rng.random_bool(0.06) { 0.12 } else { between(rng, 0.7, 1.1) },
            gaze: between(rng, -0.035, 0.035),
            nose: between(rng, 0.8, 1.25),
            lips,
            mouth: pick(
                rng,
                &[Mouth::Calm, Mouth::Calm, Mouth::Calm, Mouth::Smile, Mouth::Smile, Mouth::Laugh, Mouth::Open],
            ),
            mouth_width: between(rng, 0.22, 0.31),
            width: between(rng, 0.7, 0.84),
            jaw: between(rng, 0.66, 0.88),
            chin: between(rng, 0.3, 0.46),
            yaw: between(rng, -0.22, 0.22) + if rng.random_bool(0.3) { between(rng, -0.25, 0.25) } else { 0.0 },
            pitch: between(rng, -0.1, 0.1),
            clothes: cloth(rng),
            neckline: rng.random_range(0..4),
            grain: rng.random(),
            light: normal([side, between(rng, -0.9, 0.1), between(rng, 0.35, 1.0)]),
            ambient: between(rng, 0.55, 0.9),
        }
    }

    /// Where a feature of the face stands once the head is turned.
    pub fn turn(&self, x: f32, y: f32) -> Point {
        let around = (x / self.width).clamp(-1.25, 1.25);
        // Beyond the outline there is no sphere left to turn on; straight on from there.
        let angle = around.clamp(-1.0, 1.0).asin() + self.yaw;
        let x = self.width * (angle.clamp(-1.5, 1.5).sin() + (around - around.clamp(-1.0, 1.0)));
        [x, y + self.pitch * (1.0 - 0.6 * y * y)]
    }

    /// How much narrower a feature at `x` looks once the head is turned.
    pub fn narrowing(&self, x: f32) -> f32 {
        let angle = (x / self.width).clamp(-1.0, 1.0).asin();
        ((angle + self.yaw).cos() / angle.cos().max(0.3)).clamp(0.35, 1.2)
    }

    /// A colour in this person's light, at a place on the round of the head.
    pub fn lit(&self, colour: Colour, p: Point) -> Colour {
        let (x, y) = (p[0] / (self.width * 1.12), (p[1] + 0.05) / 1.2);
        let z = (1.0 - x * x - y * y).max(0.02).sqrt();
        let [a, b, c] = self.light;
        let facing = (x * a + y * b + z * c).max(0.0);
        let shade = self.ambient + (1.12 - self.ambient) * facing;
        // Shadows lean warm: blue fades first.
        [colour[0] * shade.powf(0.92), colour[1] * shade, colour[2] * shade.powf(1.05)]
    }
}

fn normal(v: [f32; 3]) -> [f32; 3] {
    let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
    v.map(|x| x / length)
}
