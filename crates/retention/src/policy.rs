//! What a policy says.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use chrono::Weekday;
use chrono_tz::Tz;

use crate::span::Span;

/// How many backups a rule keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Count {
    /// So many, the newest ones.
    Newest(NonZeroU32),
    /// As many as there are.
    Unlimited,
}

impl Count {
    /// The newest `number` backups; none of them is no rule.
    #[must_use]
    pub fn newest(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self::Newest)
    }

    pub(crate) fn includes(self, place: u32) -> bool {
        match self {
            Self::Newest(number) => place <= number.get(),
            Self::Unlimited => true,
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(number) => number.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl FromStr for Count {
    type Err = CountError;

    fn from_str(text: &str) -> Result<Self, CountError> {
        match text {
            "unlimited" => Ok(Self::Unlimited),
            number => number.parse().map(Self::Newest).map_err(|_| CountError { text: text.to_owned() }),
        }
    }
}

/// A text that is no [`Count`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not how many backups to keep: a number from 1 to {}, or `unlimited`", u32::MAX)]
pub struct CountError {
    text: String,
}

/// The rules of a [`Policy`]. Each of them keeps some backups; what none of them keeps is removed.
///
/// | rule | keeps |
/// | --- | --- |
/// | `last` | the newest ones |
/// | `hourly`, `daily`, `weekly`, `monthly`, `yearly` | of each of the newest hours, days, ISO weeks, months, years with a backup the last one |
/// | `within` | all that are not older than the newest one by more than this |
/// | `weekly_backup_day` | the product's own policy, see [`WeeklyBackupDay`] |
///
/// Hours to years are those of [`time_zone`](Self::time_zone). As long as there are fewer of them than a rule keeps, the
/// oldest backup is kept too: otherwise the first year of a `yearly` would keep the newest backup alone, and none would
/// ever become one of a year before. These are the rules that people know from restic's `forget`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The newest ones.
    pub last: Option<Count>,
    /// One of each hour.
    pub hourly: Option<Count>,
    /// One of each day.
    pub daily: Option<Count>,
    /// One of each ISO week, which begins on Monday.
    pub weekly: Option<Count>,
    /// One of each month.
    pub monthly: Option<Count>,
    /// One of each year.
    pub yearly: Option<Count>,
    /// All that are not older than the newest one by more than this.
    pub within: Option<Span>,
    /// The product's own policy.
    pub weekly_backup_day: Option<WeeklyBackupDay>,
    /// Whose days and hours are meant.
    pub time_zone: Tz,
}

/// The policy of the product's own backup job: it counts backups, not days and weeks with one.
///
/// The settings are `weekly_backup_day`, `keep_weekly` and `keep_daily` of the product's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeeklyBackupDay {
    /// Backups of this day are weekly ones, all others daily ones.
    pub day: Weekday,
    /// How many weekly ones are kept.
    pub weekly: Option<Count>,
    /// How many daily ones are kept.
    pub daily: Option<Count>,
}

impl WeeklyBackupDay {
    /// As the product does it when nothing else is set: 4 of the day and 6 of all other days.
    #[must_use]
    pub fn documented(day: Weekday) -> Self {
        Self { day, weekly: Count::newest(4), daily: Count::newest(6) }
    }
}

/// Rules that keep something.
///
/// ```
/// use retention::{Count, Policy, Rules};
///
/// let rules = Rules { daily: Count::newest(7), monthly: Some(Count::Unlimited), ..Rules::default() };
/// assert!(Policy::try_from(rules).is_ok());
/// assert!(Policy::try_from(Rules::default()).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Rules,
}

impl Policy {
    /// What it was made of.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

impl TryFrom<Rules> for Policy {
    type Error = EmptyPolicy;

    fn try_from(rules: Rules) -> Result<Self, EmptyPolicy> {
        let Rules { last, hourly, daily, weekly, monthly, yearly, within, weekly_backup_day, time_zone: _ } = &rules;
        let of_day = weekly_backup_day.is_some_and(|policy| policy.weekly.is_some() || policy.daily.is_some());
        let keeps_some = [last, hourly, daily, weekly, monthly, yearly].iter().any(|rule| rule.is_some());
        if keeps_some || within.is_some() || of_day { Ok(Self { rules }) } else { Err(EmptyPolicy) }
    }
}

/// No rule keeps anything, so all backups but one would be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the retention policy keeps nothing")]
pub struct EmptyPolicy;

impl EmptyPolicy {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        "say what is to be kept, such as the last 7; to keep every backup, leave the policy out"
    }
}
