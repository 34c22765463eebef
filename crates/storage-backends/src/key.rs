//! Names of objects.

use std::fmt;
use std::str::FromStr;

/// How the names of unfinished files begin in a folder; see [`local`](crate::local).
pub(crate) const STAGING_PREFIX: &str = ".staging-";

/// The name of an object: parts between slashes, such as `nightly/20261121T230004Z/manifest.json`.
///
/// Every backend can store every key: a part is not empty, not `.` or `..`, at most 255 bytes, and has no NUL and no backslash;
/// a key is at most 1,024 bytes. Keys that others chose, such as those of a bucket, need not be like that.
///
/// ```
/// use storage_backends::Key;
///
/// let key: Key = "nightly/20261121T230004Z/manifest.json".parse()?;
/// assert_eq!(key.name(), "manifest.json");
/// assert!("nightly/../secret".parse::<Key>().is_err());
/// # Ok::<(), storage_backends::InvalidKey>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<str>);

impl Key {
    /// The whole key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its last part.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The key of the folder that it lies in; `None` for that of everything.
    #[must_use]
    pub fn folder(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(folder, _)| Self(folder.into()))
    }

    /// The key of something below this one.
    ///
    /// # Errors
    ///
    /// When that is no key.
    pub fn join(&self, part: &str) -> Result<Self, InvalidKey> {
        format!("{self}/{part}").parse()
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let refuse = |why| Err(InvalidKey { key: text.to_owned(), why });
        if text.len() > 1024 {
            return refuse("it is longer than 1,024 bytes");
        }
        for part in text.split('/') {
            match part {
                "" => return refuse("a part of it is empty"),
                "." | ".." => return refuse("it has `.` or `..` in it"),
                _ if part.len() > 255 => return refuse("a part of it is longer than 255 bytes"),
                _ if part.contains(['\0', '\\']) => return refuse("it has a NUL or a backslash in it"),
                _ if part.starts_with(STAGING_PREFIX) => return refuse("unfinished files have such names"),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the name of an object: {why}", key.escape_debug())]
pub struct InvalidKey {
    key: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_backend_cannot_store_is_no_key() {
        let long = "x".repeat(256);
        for text in
            ["", "/", "a/", "/a", "a//b", ".", "a/..", "../a", "a\0", "a\\b", &long, ".staging-1", "a/.staging-"]
        {
            assert!(text.parse::<Key>().is_err(), "{text:?}");
        }
        let deep = vec!["x"; 513].join("/");
        assert!(deep.parse::<Key>().is_err() && deep[..1023].parse::<Key>().is_ok());
        for text in ["a", "a b", "\u{e4}/\u{1f980}", "...", ".hidden", "weekly/store.dump_20240310-230003", &long[1..]]
        {
            assert_eq!(text.parse::<Key>().expect("a key").as_str(), text);
        }
    }
}
