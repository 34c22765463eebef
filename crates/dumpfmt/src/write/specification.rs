//! How the data of a new archive is to be compressed.

use std::fmt;
use std::str::FromStr;

use crate::header::Compression;

/// A compression and its level, as the option `-Z` of pg_dump names them:
/// `none`, `gzip`, `gzip:9`, `lz4`, `zstd:19`, or a number, which is a level of gzip (`0` is none). The long mode of zstd
/// is not there: data is compressed in pieces that are smaller than its windows.
///
/// ```
/// use dumpfmt::{Compression, CompressionSpecification};
///
/// let specification: CompressionSpecification = "gzip:7".parse()?;
/// assert_eq!(specification.algorithm(), Compression::Gzip);
/// assert_eq!(specification.level(), Some(7));
/// assert!("gzip:99".parse::<CompressionSpecification>().is_err());
/// # Ok::<(), dumpfmt::SpecificationError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CompressionSpecification {
    algorithm: Compression,
    level: Option<i32>,
}

/// Why a compression specification is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecificationError {
    /// Not one of the algorithms.
    #[error("`{0}` is not a compression; there are `none`, `gzip`, `lz4` and `zstd`")]
    UnknownAlgorithm(String),
    /// What follows the colon is not a number.
    #[error("`{0}` is not a level of compression; write a number, as in `gzip:9`")]
    UnknownLevel(String),
    /// The long mode of zstd, which pg_dump has as `zstd:long` and `zstd:level=3,long`.
    #[error(
        "the long mode of zstd is not there: what is compressed here is in frames of 512 KiB, and a window over several \
         megabytes makes no sense in them; leave `long` out (archives that were made with it are read)"
    )]
    LongMode,
    /// The algorithm has no such level.
    #[error("{algorithm} has no level {level} here; its levels are {levels}")]
    NoSuchLevel {
        /// The algorithm.
        algorithm: Compression,
        /// The level that was asked for.
        level: i32,
        /// The levels that there are.
        levels: &'static str,
    },
    /// The algorithm is known, but this build cannot write it.
    #[error("{0} cannot be written by this build, which leaves it out (feature `zstd`)")]
    NotBuilt(Compression),
    /// The algorithm has that level, but this build cannot write it.
    #[error(
        "lz4 at level {0} cannot be written by this build, which leaves LZ4 HC out (feature `lz4-hc`); levels 0 to 2 can"
    )]
    LevelNotBuilt(i32),
}

impl CompressionSpecification {
    /// An algorithm at no level in particular: 3 for zstd, the fast one of lz4, as for pg_dump; for gzip 5, which makes
    /// files of the same length here as zlib, which pg_dump uses, does with its 6.
    ///
    /// # Errors
    ///
    /// When this build cannot write that compression.
    pub fn new(algorithm: Compression) -> Result<Self, SpecificationError> {
        if algorithm == Compression::Zstd && !cfg!(feature = "zstd") {
            return Err(SpecificationError::NotBuilt(algorithm));
        }
        Ok(Self { algorithm, level: None })
    }

    /// An algorithm at a level of its own: 1 to 9 for gzip, 0 to 12 for lz4, -131072 to 22 for zstd. As for pg_dump, -1 of
    /// gzip and 0 of zstd are their defaults.
    ///
    /// # Errors
    ///
    /// When there is no such level, or this build cannot write that compression.
    pub fn with_level(algorithm: Compression, level: i32) -> Result<Self, SpecificationError> {
        let default = Self::new(algorithm)?;
        if matches!((algorithm, level), (Compression::Gzip, -1) | (Compression::Zstd, 0)) {
            return Ok(default);
        }
        let (accepted, levels) = match algorithm {
            Compression::None => (level == 0, "0 alone"),
            Compression::Gzip => ((1..=9).contains(&level), "1 to 9"),
            Compression::Lz4 => ((0..=12).contains(&level), "0 to 12"),
            Compression::Zstd => (zstd_levels().contains(&level), "-131072 to 22"),
        };
        if !accepted {
            return Err(SpecificationError::NoSuchLevel { algorithm, level, levels });
        }
        if algorithm == Compression::Lz4 && level >= LZ4_HC_FROM && !cfg!(feature = "lz4-hc") {
            return Err(SpecificationError::LevelNotBuilt(level));
        }
        Ok(Self { algorithm, level: Some(level) })
    }

    /// No compression.
    pub const NONE: Self = Self { algorithm: Compression::None, level: None };

    /// gzip at its default level, as pg_dump itself does when nothing is said.
    pub const GZIP: Self = Self { algorithm: Compression::Gzip, level: None };

    /// The algorithm.
    pub fn algorithm(&self) -> Compression {
        self.algorithm
    }

    /// The level; `None` for the algorithm's default.
    pub fn level(&self) -> Option<i32> {
        self.level
    }
}

/// The level of lz4 from which on pg_dump calls another compressor, LZ4 HC. Those below are the same.
pub(crate) const LZ4_HC_FROM: i32 = 3;

fn zstd_levels() -> std::ops::RangeInclusive<i32> {
    -131_072..=22
}

/// Whether one of the details, which commas separate, is about it.
fn is_about_long_mode(details: &str) -> bool {
    details.split(',').any(|detail| detail == "long" || detail.starts_with("long="))
}

impl FromStr for CompressionSpecification {
    type Err = SpecificationError;

    fn from_str(text: &str) -> Result<Self, SpecificationError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let algorithm = match name {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            number => match (number.parse(), level) {
                (Ok(0), None) => return Ok(Self::NONE),
                (Ok(level), None) => return Self::with_level(Compression::Gzip, level),
                _ => return Err(SpecificationError::UnknownAlgorithm(name.into())),
            },
        };
        match level {
            None => Self::new(algorithm),
            Some(details) if algorithm == Compression::Zstd && is_about_long_mode(details) => {
                Err(SpecificationError::LongMode)
            }
            Some(level) => {
                // pg_dump takes `zstd:level=3` as well.
                let digits = level.strip_prefix("level=").unwrap_or(level);
                let level = digits.parse().map_err(|_| SpecificationError::UnknownLevel(level.into()))?;
                Self::with_level(algorithm, level)
            }
        }
    }
}

impl fmt::Display for CompressionSpecification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            None => self.algorithm.fmt(f),
            Some(level) => write!(f, "{}:{level}", self.algorithm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        text.parse::<CompressionSpecification>().map_or_else(|e| e.to_string(), |s| s.to_string())
    }

    #[test]
    fn what_pg_dump_takes_after_its_option_z_is_taken() {
        for text in ["none", "gzip", "gzip:9", "lz4", "lz4:0", "lz4:1"] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(shown("0"), "none");
        assert_eq!(shown("9"), "gzip:9");
        assert_eq!(shown("gzip:level=2"), "gzip:2");
        assert_eq!([shown("-1"), shown("gzip:-1")], ["gzip", "gzip"]);
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_can() {
        assert!(shown("gzip:10").contains("1 to 9"));
        for level in ["lz4:-1", "lz4:13"] {
            assert!(shown(level).contains("0 to 12"));
        }
        assert!(shown("brotli").contains("`none`, `gzip`, `lz4` and `zstd`"));
        assert!(shown("gzip:fast").contains("a number"));
        assert!(shown("").contains("not a compression"));
    }

    #[test]
    fn the_long_mode_of_zstd_is_refused_with_the_reason() {
        for text in ["zstd:long", "zstd:level=3,long", "zstd:long,level=3", "zstd:long=true"] {
            assert!(text.parse::<CompressionSpecification>() == Err(SpecificationError::LongMode), "{text}");
            assert!(shown(text).contains("frames of 512 KiB"));
        }
        for text in ["gzip:long", "zstd:longer", "zstd:level=3,other"] {
            assert!(shown(text).contains("is not a level"), "{text}");
        }
    }

    #[test]
    #[cfg(feature = "zstd")]
    fn zstd_has_levels_below_its_default() {
        assert_eq!([shown("zstd:-5"), shown("zstd:0"), shown("zstd:22")], ["zstd:-5", "zstd", "zstd:22"]);
        assert!(shown("zstd:23").contains("-131072 to 22"));
    }

    #[test]
    fn a_build_without_lz4_hc_says_so() {
        if cfg!(feature = "lz4-hc") {
            assert_eq!([shown("lz4:3"), shown("lz4:12")], ["lz4:3", "lz4:12"]);
        } else {
            assert!(shown("lz4:3").contains("feature `lz4-hc`"));
        }
    }

    #[test]
    #[cfg(not(feature = "zstd"))]
    fn a_build_without_zstd_says_so() {
        assert!(shown("zstd").contains("feature `zstd`"));
    }
}
