//! How backups are called.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

/// How an ID tells its time.
const FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// The ID of a backup: the time at which it was begun, in UTC, as in `20261121T230004Z`. IDs are ordered by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId {
    text: Box<str>,
}

impl BackupId {
    /// The ID of a backup that is begun at `time`; `None` for a year of more or less than four digits.
    #[must_use]
    pub fn at(time: DateTime<Utc>) -> Option<Self> {
        time.format(FORMAT).to_string().parse().ok()
    }

    /// When the backup was begun.
    #[must_use]
    pub fn time(&self) -> DateTime<Utc> {
        let time = NaiveDateTime::parse_from_str(&self.text, FORMAT);
        time.expect("it was read as one before").and_utc()
    }

    /// The ID of the next second; `None` where the years of four digits end.
    ///
    /// For a backup that is there already and whose ID another one has, such as a daily and a weekly one of the same second.
    #[must_use]
    pub fn next(&self) -> Option<Self> {
        self.time().checked_add_signed(TimeDelta::seconds(1)).and_then(Self::at)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for BackupId {
    type Err = InvalidBackupId;

    fn from_str(text: &str) -> Result<Self, InvalidBackupId> {
        // What is printed otherwise, such as with blanks or signs, is another text.
        let time = NaiveDateTime::parse_from_str(text, FORMAT).ok();
        let is_same = time.is_some_and(|time| time.format(FORMAT).to_string() == text && text.len() == 16);
        if is_same { Ok(Self { text: text.into() }) } else { Err(InvalidBackupId { text: text.to_owned() }) }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text that is no [`BackupId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the ID of a backup, such as 20261121T230004Z", text.escape_debug())]
pub struct InvalidBackupId {
    text: String,
}
