//! API keys: what one may do, how it is made, written, and compared. Pure; the rows lie in `store/keys.rs`.
//!
//! A key is `mm_<prefix>_<secret>`. The prefix finds the row and may be shown and logged; the secret is 256 random
//! bits that only its holder has. With that much chance in it a plain SHA-256 is enough: there is nothing to guess.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use subtle::ConstantTimeEq;

use crate::sha256;

/// Random bytes of the prefix; written, they are eight characters.
const PREFIX_BYTES: usize = 6;

/// Random bytes of the secret.
const SECRET_BYTES: usize = 32;

/// What a key may do; each scope contains the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Classify, and see which models there are.
    Predict,
    /// Import data sets, queue and steer jobs, see all of it.
    Train,
    /// Delete, decide which version serves, read the audit log.
    Admin,
}

impl Scope {
    /// All scopes, the smallest first.
    pub const ALL: [Self; 3] = [Self::Predict, Self::Train, Self::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::Train => "train",
            Self::Admin => "admin",
        }
    }

    /// Whether a key of this scope may do what needs `needed`.
    pub fn covers(self, needed: Self) -> bool {
        self >= needed
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| {
            format!("no scope {text:?}; there are predict, train and admin, each containing the ones before")
        })
    }
}

/// A key that was just made. Its text is shown once and kept nowhere, so it has no `Debug`.
pub struct FreshKey {
    /// The whole key.
    pub text: String,
    /// Its public part.
    pub prefix: String,
    /// SHA-256 of the whole key.
    pub sha256: String,
}

impl FreshKey {
    /// A new key from the operating system's random numbers.
    ///
    /// # Errors
    /// When the operating system has none.
    pub fn generate() -> Result<Self, rand::rngs::SysError> {
        let (mut prefix, mut secret) = ([0; PREFIX_BYTES], [0; SECRET_BYTES]);
        SysRng.try_fill_bytes(&mut prefix)?;
        SysRng.try_fill_bytes(&mut secret)?;
        // `-` and `_` would make the parts hard to tell apart, for people and for us.
        let prefix = URL_SAFE_NO_PAD.encode(prefix).replace(['-', '_'], "x");
        let text = format!("mm_{prefix}_{}", URL_SAFE_NO_PAD.encode(secret));
        let sha256 = digest(text.as_bytes());
        Ok(Self { text, prefix, sha256 })
    }
}

/// The public part of what may be a key.
pub fn prefix_of(key: &[u8]) -> Option<&str> {
    let (prefix, _secret) = std::str::from_utf8(key).ok()?.strip_prefix("mm_")?.split_once('_')?;
    let fits = prefix.len() == PREFIX_BYTES / 3 * 4 && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    fits.then_some(prefix)
}

/// Whether `key` is the one that `sha256` was stored for; takes the same time wherever they differ.
pub fn matches(key: &[u8], sha256: &str) -> bool {
    digest(key).as_bytes().ct_eq(sha256.as_bytes()).into()
}

fn digest(key: &[u8]) -> String {
    sha256::of(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_prefix_and_matches_its_own_hash_only() {
        let (key, other) = (FreshKey::generate().unwrap(), FreshKey::generate().unwrap());
        assert_eq!(prefix_of(key.text.as_bytes()), Some(key.prefix.as_str()));
        assert!(matches(key.text.as_bytes(), &key.sha256));
        assert!(!matches(other.text.as_bytes(), &key.sha256) && !matches(b"", &key.sha256));
        assert!(!key.sha256.contains(&key.text) && key.text.len() == 3 + 8 + 1 + 43);
        for _ in 0..200 {
            let key = FreshKey::generate().unwrap();
            assert_eq!(prefix_of(key.text.as_bytes()), Some(key.prefix.as_str()), "{}", key.prefix);
        }
    }

    #[test]
    fn every_sign_of_a_secret_is_random() {
        let secrets: Vec<Vec<u8>> =
            (0..50).map(|_| FreshKey::generate().unwrap().text.into_bytes()[12..].to_vec()).collect();
        for place in 0..43 {
            let signs: std::collections::BTreeSet<u8> = secrets.iter().map(|secret| secret[place]).collect();
            assert!(signs.len() > 4, "sign {place} is one of {signs:?} in 50 keys");
        }
    }

    #[test]
    fn what_is_no_key_has_no_prefix() {
        for text in ["", "mm_", "mm_abc_x", "mm_abcdefgh", "xx_abcdefgh_secret", "mm_abcd%fgh_secret"] {
            assert_eq!(prefix_of(text.as_bytes()), None, "{text}");
        }
        assert_eq!(prefix_of(b"mm_\xff\xff\xff\xff\xff\xff\xff\xff_x"), None);
    }

    #[test]
    fn each_scope_contains_the_ones_before() {
        for (at, scope) in Scope::ALL.into_iter().enumerate() {
            for (below, needed) in Scope::ALL.into_iter().enumerate() {
                assert_eq!(scope.covers(needed), below <= at, "{scope} for {needed}");
            }
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert!("root".parse::<Scope>().unwrap_err().contains("predict, train and admin"));
    }
}
