//! How a SHA-256 is written everywhere: 64 lower-case hexadecimal digits.

use sha2::{Digest, Sha256};

/// The finished hash in hexadecimal.
pub fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
