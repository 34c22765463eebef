//! The names that the product's own backup job gives its dumps.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};
use chrono_tz::Tz;

use crate::zone;

const STEM: &str = "store.dump_";
const WEEKLY_FOLDER: &str = "weekly/";

/// The name of a backup: the path of its dump, counted from the root of the volume.
///
/// Names are ordered by time, oldest first; of two at the same second the daily one comes first.
///
/// The time is what the clock on the wall said where the backup was made: a name does not tell the
/// time zone, so two names can be an hour apart though the clock was only set back between them.
///
/// A name is read strictly. Next to the backups there are others that only look alike (a dump
/// that is being written, a copy that somebody made), and what is not a backup must not be counted
/// as one and then push out one that is.
///
/// ```
/// use retention::{BackupName, Cadence};
///
/// let name: BackupName = "weekly/store.dump_20240310-230003".parse()?;
/// assert_eq!(name.cadence(), Cadence::Weekly);
/// assert_eq!(name.time().to_string(), "2024-03-10 23:00:03");
/// assert!(name > "store.dump_20240309-230004".parse()?);
///
/// assert!("store.dump_20240310-230003.tmp".parse::<BackupName>().is_err());
/// # Ok::<(), retention::ParseBackupNameError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName {
    // The order of the fields is the order of names.
    time: NaiveDateTime,
    cadence: Cadence,
}

/// Which of the two series a backup belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cadence {
    /// At the root of the volume.
    Daily,
    /// In the folder `weekly`.
    Weekly,
}

impl BackupName {
    /// The name of a backup that was begun at `time`. A fraction of a second is dropped.
    ///
    /// # Errors
    ///
    /// The year is not between 0 and 9999, so four digits cannot tell it.
    pub fn new(cadence: Cadence, time: NaiveDateTime) -> Result<Self, YearOutOfRange> {
        if !(0..=9999).contains(&time.year()) {
            return Err(YearOutOfRange { year: time.year() });
        }
        let time = time.with_nanosecond(0).expect("every second has a beginning");
        Ok(Self { time, cadence })
    }

    /// When the backup was begun, on the clock where it was made, in whole seconds.
    #[must_use]
    pub fn time(&self) -> NaiveDateTime {
        self.time
    }

    /// When that was, where the clock was one of `zone`. A time that it showed twice is taken for the first one.
    #[must_use]
    pub fn instant(&self, zone: Tz) -> DateTime<Utc> {
        zone::instant(self.time, zone)
    }

    /// Which series it belongs to.
    #[must_use]
    pub fn cadence(&self) -> Cadence {
        self.cadence
    }
}

impl FromStr for BackupName {
    type Err = ParseBackupNameError;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        let (cadence, name) = match path.strip_prefix(WEEKLY_FOLDER) {
            Some(name) => (Cadence::Weekly, name),
            None => (Cadence::Daily, path),
        };
        let foreign = || ParseBackupNameError::Foreign { path: path.to_owned() };
        let stamp = name.strip_prefix(STEM).ok_or_else(foreign)?.as_bytes();
        // By hand, since chrono's `%Y` and its like also take signs, blanks and missing zeros.
        let is_stamp = stamp.len() == 15
            && stamp.iter().enumerate().all(|(at, c)| if at == 8 { *c == b'-' } else { c.is_ascii_digit() });
        if !is_stamp {
            return Err(foreign());
        }
        let number = |from: usize, to: usize| stamp[from..to].iter().fold(0, |n, c| 10 * n + u32::from(c - b'0'));
        let year = i32::try_from(number(0, 4)).expect("four digits");
        NaiveDate::from_ymd_opt(year, number(4, 6), number(6, 8))
            .and_then(|date| date.and_hms_opt(number(9, 11), number(11, 13), number(13, 15)))
            .map(|time| Self { time, cadence })
            .ok_or_else(|| ParseBackupNameError::NoSuchTime { path: path.to_owned() })
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = match self.cadence {
            Cadence::Daily => "",
            Cadence::Weekly => WEEKLY_FOLDER,
        };
        write!(f, "{folder}{STEM}{}", self.time.format("%Y%m%d-%H%M%S"))
    }
}

/// Why a path is not a [`BackupName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseBackupNameError {
    /// It has another form: somebody else's file.
    #[error(
        "`{path}` is not the name of a backup, which is `store.dump_YYYYMMDD-HHMMSS` or the same in the folder `weekly`"
    )]
    Foreign {
        /// The path as it was given.
        path: String,
    },
    /// It has the form, but no calendar or clock has such a time.
    #[error("`{path}` is not the name of a backup: there is no such date or time")]
    NoSuchTime {
        /// The path as it was given.
        path: String,
    },
}

impl ParseBackupNameError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign { .. } => None,
            Self::NoSuchTime { .. } => {
                Some("if it is a backup that was renamed by hand, give it the time at which it was made".to_owned())
            }
        }
    }
}

/// A time that no [`BackupName`] can tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the year {year} does not fit into the name of a backup, which has four digits for it")]
pub struct YearOutOfRange {
    year: i32,
}

impl YearOutOfRange {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some("check the clock of the machine that makes the backups".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(path: &str) -> BackupName {
        path.parse().expect("a backup name")
    }

    fn any_cadence() -> impl Strategy<Value = Cadence> {
        prop_oneof![Just(Cadence::Daily), Just(Cadence::Weekly)]
    }

    /// Every second of the years 0 to 9999.
    fn any_time() -> impl Strategy<Value = NaiveDateTime> {
        let edge =
            |year, month, day| NaiveDate::from_ymd_opt(year, month, day).expect("a date").and_time(Default::default());
        let (first, end) = (edge(0, 1, 1).and_utc().timestamp(), edge(10_000, 1, 1).and_utc().timestamp());
        (first..end).prop_map(|second| chrono::DateTime::from_timestamp(second, 0).expect("in range").naive_utc())
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same_name(cadence in any_cadence(), time in any_time()) {
            let name = BackupName::new(cadence, time).unwrap();
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!((name.time(), name.cadence()), (time, cadence));
        }

        #[test]
        fn what_is_read_is_printed_as_it_was(path in "(weekly/)?store\\.dump_[0-2][0-9]{3}[01][0-9][0-3][0-9]-[0-2][0-9][0-5][0-9][0-5][0-9]") {
            if let Ok(name) = path.parse::<BackupName>() {
                prop_assert_eq!(name.to_string(), path);
            }
        }

        #[test]
        fn names_are_ordered_by_time(a in (any_cadence(), any_time()), b in (any_cadence(), any_time())) {
            prop_assume!(a.1 != b.1);
            let [first, second] = [a, b].map(|(cadence, time)| BackupName::new(cadence, time).unwrap());
            prop_assert_eq!(first.cmp(&second), a.1.cmp(&b.1));
        }

        #[test]
        fn no_text_makes_it_panic(path in "(weekly/|store\\.dump_|[0-9é.-]){0,20}") {
            let _ = path.parse::<BackupName>();
        }
    }

    #[test]
    fn a_daily_and_a_weekly_backup_of_one_second_are_two() {
        let (daily, weekly) = (name("store.dump_20240310-230003"), name("weekly/store.dump_20240310-230003"));
        assert!(daily < weekly);
        assert_eq!(daily.time(), weekly.time());
    }

    #[test]
    fn near_misses_are_somebody_elses_files() {
        for path in [
            "",
            "store.dump",
            "store.dump_",
            "store.dump_20240101",
            "store.dump_20240101-00000",
            "store.dump_20240101-0000000",
            "store.dump_20240101_000000",
            "store.dump_20240101-000000.tmp",
            "store.dump_20240101-000000\n",
            "store.dump_+2024011-000000",
            "store.dump_ 2024011-000000",
            "store.dump_２０２４0101-0",
            "Store.dump_20240101-000000",
            " store.dump_20240101-000000",
            ".store.dump_20240101-000000",
            "./store.dump_20240101-000000",
            "/store.dump_20240101-000000",
            "/store-backups/store.dump_20240101-000000",
            "daily/store.dump_20240101-000000",
            "Weekly/store.dump_20240101-000000",
            "weekly//store.dump_20240101-000000",
            "weekly/weekly/store.dump_20240101-000000",
            "weekly/../store.dump_20240101-000000",
            "weekly",
            "weekly/",
            "auth-encryption-wa_20240101-000000.yaml",
        ] {
            assert_eq!(
                path.parse::<BackupName>(),
                Err(ParseBackupNameError::Foreign { path: path.into() }),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_day_or_an_hour_that_never_was_is_told_apart() {
        for path in [
            "store.dump_20240230-000000",
            "store.dump_20230229-120000",
            "store.dump_20241301-000000",
            "store.dump_20240100-000000",
            "weekly/store.dump_20240101-240000",
            "store.dump_20240101-006000",
            "store.dump_20240101-235960",
        ] {
            let error = path.parse::<BackupName>().unwrap_err();
            assert_eq!(error, ParseBackupNameError::NoSuchTime { path: path.into() });
            assert!(error.hint().is_some());
        }
        assert_eq!(name("store.dump_20240229-000000").time().to_string(), "2024-02-29 00:00:00");
    }

    #[test]
    fn a_fraction_of_a_second_is_dropped_and_a_leap_second_too() {
        let day = NaiveDate::from_ymd_opt(2016, 12, 31).expect("a date");
        for nanosecond in [1, 999_999_999, 1_999_999_999] {
            let time = day.and_hms_nano_opt(23, 59, 59, nanosecond).expect("a time");
            let name = BackupName::new(Cadence::Daily, time).unwrap();
            assert_eq!(name.to_string(), "store.dump_20161231-235959");
        }
    }

    #[test]
    fn a_year_of_five_digits_is_refused() {
        for year in [-1, 10_000] {
            let time = NaiveDate::from_ymd_opt(year, 1, 1).expect("a date").and_time(Default::default());
            let error = BackupName::new(Cadence::Weekly, time).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the year {year} does not fit into the name of a backup, which has four digits for it")
            );
        }
        assert_eq!(name("store.dump_00000101-000000").time().year(), 0);
    }
}
