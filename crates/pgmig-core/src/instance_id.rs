//! The ID of a service instance (a *tenant*).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The ID of a service instance, also called tenant ID.
///
/// Usually a UUID: either random or a number padded into the shape of one
/// (`00000000-0000-0000-0000-001570184978`). Other text is allowed, because the product's
/// column is text.
///
/// Text in the shape `8-4-4-4-12` of hexadecimal digits is a UUID: it compares without regard to
/// case and prints in lower case. Every other text compares as it is.
///
/// ```
/// use pgmig_core::instance_id::InstanceId;
///
/// let id: InstanceId = " E10001EB-6272-453A-BB43-3DCF0E765892 ".parse()?;
/// assert_eq!(id.as_str(), "e10001eb-6272-453a-bb43-3dcf0e765892");
/// assert!(id.uuid().is_some());
/// # Ok::<(), pgmig_core::instance_id::ParseInstanceIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Box<str>);

impl InstanceId {
    /// The longest ID that is accepted, in characters.
    pub const MAX_CHARS: usize = 256;

    /// The ID as text; a UUID in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID as a UUID, when it has the shape of one.
    #[must_use]
    pub fn uuid(&self) -> Option<Uuid> {
        hyphenated_uuid(&self.0)
    }
}

impl FromStr for InstanceId {
    type Err = ParseInstanceIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseInstanceIdError::Empty);
        }
        let chars = text.chars().count();
        if chars > Self::MAX_CHARS {
            return Err(ParseInstanceIdError::TooLong { chars });
        }
        if text.chars().any(char::is_control) {
            return Err(ParseInstanceIdError::ControlCharacter);
        }
        Ok(Self(match hyphenated_uuid(text) {
            Some(uuid) => uuid.to_string().into(),
            None => text.into(),
        }))
    }
}

impl From<Uuid> for InstanceId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid.to_string().into())
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` honours a width, so that IDs line up in tables.
        f.pad(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({})", self.0)
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for InstanceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a text is not an [`InstanceId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseInstanceIdError {
    /// Nothing, or only white space.
    #[error("an instance ID cannot be empty")]
    Empty,
    /// Longer than [`InstanceId::MAX_CHARS`].
    #[error("an instance ID has at most {} characters, this one has {chars}", InstanceId::MAX_CHARS)]
    TooLong {
        /// The length found, in characters.
        chars: usize,
    },
    /// A line break, a tab or another control character inside.
    #[error("an instance ID cannot contain line breaks or control characters")]
    ControlCharacter,
}

/// The UUID in `text`, only in the form `8-4-4-4-12`.
///
/// The forms without hyphens, in braces and as a URN are left alone: in a text column they are
/// other values than the hyphenated one.
fn hyphenated_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn id(text: &str) -> InstanceId {
        text.parse().expect("an ID")
    }

    #[test]
    fn a_uuid_compares_and_hashes_without_regard_to_case() {
        let lower = id("e10001eb-6272-453a-bb43-3dcf0e765892");
        let upper = id("E10001EB-6272-453A-BB43-3DCF0E765892");
        assert_eq!(lower, upper);
        assert_eq!(HashSet::from([lower, upper.clone()]).len(), 1);
        assert_eq!(upper.to_string(), "e10001eb-6272-453a-bb43-3dcf0e765892");
    }

    #[test]
    fn a_number_padded_into_a_uuid_is_a_uuid() {
        let id = id("00000000-0000-0000-1764-035503433645");
        assert_eq!(id.uuid(), Some(Uuid::from_u128(0x1764_0355_0343_3645)));
    }

    #[test]
    fn other_text_is_kept_as_it_is() {
        for text in ["Tenant-1", "E10001EB6272453ABB433DCF0E765892", "urn:x", "Mandant Süd"] {
            assert_eq!(id(text).as_str(), text);
            assert_eq!(id(text).uuid(), None);
        }
        assert_ne!(id("a"), id("A"));
    }

    #[test]
    fn white_space_around_is_dropped_and_nothing_is_not_an_id() {
        assert_eq!(id("\t a b \n").as_str(), "a b");
        assert_eq!(" \n".parse::<InstanceId>(), Err(ParseInstanceIdError::Empty));
        assert_eq!("a\nb".parse::<InstanceId>(), Err(ParseInstanceIdError::ControlCharacter));
        assert_eq!(
            "é".repeat(257).parse::<InstanceId>().unwrap_err().to_string(),
            "an instance ID has at most 256 characters, this one has 257"
        );
    }

    #[test]
    fn it_is_text_in_json() {
        let json = "\"00000000-0000-0000-0000-00157018497A\"";
        let id: InstanceId = serde_json::from_str(json).expect("JSON");
        assert_eq!(serde_json::to_string(&id).expect("JSON"), "\"00000000-0000-0000-0000-00157018497a\"");
        assert!(serde_json::from_str::<InstanceId>("\" \"").is_err());
        assert!(serde_json::from_str::<InstanceId>("7").is_err());
    }
}
