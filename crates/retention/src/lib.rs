//! Decides which backups stay, and says why. No I/O and no clock: names, times and a policy come in as values, and
//! decisions go out as values.
//!
//! A policy is made of rules: those of the product's own backup job, those that people know from restic, or both. What a
//! rule keeps stays; a few things stay whatever the rules say. See [`Rules`] and [`decide`].
//!
//! ```
//! use chrono::{DateTime, Utc, Weekday};
//! use retention::{Candidate, Count, Policy, Rules, WeeklyBackupDay, decide};
//!
//! let rules = Rules {
//!     weekly_backup_day: Some(WeeklyBackupDay { day: Weekday::Sun, weekly: Count::newest(4), daily: Count::newest(2) }),
//!     time_zone: chrono_tz::Europe::Berlin,
//!     ..Rules::default()
//! };
//! let policy = Policy::try_from(rules)?;
//! let backup = |time: &str, verified| Candidate {
//!     source: "store".into(),
//!     name: time.into(),
//!     time: time.parse().ok(),
//!     verified,
//! };
//! let backups = [
//!     backup("2026-11-20T22:00:03Z", true),
//!     backup("2026-11-19T22:00:04Z", true),
//!     backup("2026-11-18T22:00:02Z", true),
//!     backup("2026-11-15T22:00:05Z", true),
//!     backup("2026-11-14T22:00:01Z", false),
//! ];
//! let now: DateTime<Utc> = "2026-11-20T22:05:00Z".parse()?;
//! let said: Vec<String> = decide(&policy, now, &backups).iter().map(ToString::to_string).collect();
//! assert_eq!(said, [
//!     "the newest verified backup, daily 1 of 2",
//!     "daily 2 of 2",
//!     "no rule keeps it",
//!     "weekly 1 of 4",
//!     "no rule keeps it",
//! ]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Names
//!
//! The product's own backup job left volumes full of dumps behind, and ours keeps its names:
//!
//! | path in the volume | what it is |
//! | --- | --- |
//! | `store.dump_YYYYMMDD-HHMMSS` | a daily backup |
//! | `weekly/store.dump_YYYYMMDD-HHMMSS` | a weekly backup |
//!
//! [`BackupName`] reads and prints them. The newest backup of a folder, told by the names alone,
//! since a copied or touched file has a wrong modification time:
//!
//! ```
//! use retention::BackupName;
//!
//! let listing = ["store.dump_20240309-230004", "weekly/store.dump_20240310-230003", "lost+found"];
//! let newest = listing.iter().filter_map(|path| path.parse::<BackupName>().ok()).max();
//! assert_eq!(newest.map(|name| name.to_string()).as_deref(), Some("weekly/store.dump_20240310-230003"));
//! ```

mod backup_name;
mod decision;
mod policy;
mod span;
mod zone;

pub use backup_name::{BackupName, Cadence, ParseBackupNameError, YearOutOfRange};
pub use decision::{Candidate, Decision, Oddity, Reason, Rule, decide};
pub use policy::{Count, CountError, EmptyPolicy, Policy, Rules, WeeklyBackupDay};
pub use span::{Span, SpanError};
