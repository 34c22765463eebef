//! The length and the digest of what goes by.

use sha2::{Digest as _, Sha256};

/// The length and the SHA-256 digest of what was shown to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digest {
    sha256: Sha256,
    bytes: u64,
}

impl Digest {
    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        self.bytes += piece.len() as u64;
    }

    /// The length in bytes, and the digest in hexadecimal digits.
    pub(crate) fn finish(self) -> (u64, String) {
        (self.bytes, hex(&self.sha256.finalize()))
    }

    /// Says in which way it is not what was expected.
    pub(crate) fn compare(self, bytes: u64, sha256: &str) -> Result<(), String> {
        let (found, digest) = self.finish();
        if found != bytes {
            return Err(format!("it has {found} bytes, but the manifest says {bytes}"));
        }
        if !digest.eq_ignore_ascii_case(sha256) {
            return Err(format!("its SHA-256 digest is {digest}, but the manifest says {sha256}"));
        }
        Ok(())
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Text can always be appended to a text.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
