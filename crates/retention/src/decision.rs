//! What becomes of each backup, and why.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::policy::{Count, Policy};
use crate::span::Span;

/// A backup as far as a [`Policy`] cares for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it is a backup of: each source is looked at by itself.
    pub source: String,
    /// Its name. Of two backups of the same time the one whose name comes later counts as the newer one.
    pub name: String,
    /// When it was begun; `None` when nobody could tell from its name or its manifest.
    pub time: Option<DateTime<Utc>>,
    /// Whether it was proven that it can be read to its end.
    pub verified: bool,
}

/// What becomes of a backup, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays, for each of these reasons; at least one.
    Keep(Vec<Reason>),
    /// It is removed: no rule keeps it.
    Remove,
    /// It stays, and was not counted: something is wrong with it.
    LeaveAlone(Oddity),
}

impl Decision {
    /// Whether the backup is to be removed.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        *self == Self::Remove
    }
}

/// Prints the reasons, as in `daily 3 of 6, weekly 1 of 4`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(reasons) => reasons.iter().enumerate().try_for_each(|(place, reason)| {
                let comma = if place > 0 { ", " } else { "" };
                write!(f, "{comma}{reason}")
            }),
            Self::Remove => f.write_str("no rule keeps it"),
            Self::LeaveAlone(oddity) => oddity.fmt(f),
        }
    }
}

/// Why a backup stays.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A rule that counts.
    Counted {
        /// The rule.
        rule: Rule,
        /// Which of those that it keeps, from the newest, 1.
        place: u32,
        /// How many it keeps.
        of: Count,
        /// Only since it is the oldest one, and the rule keeps more than there are.
        is_oldest: bool,
    },
    /// It is not older than the newest one by more than this.
    Within(Span),
    /// No policy removes it.
    NewestVerified,
    /// No policy removes it, and there is no other.
    OnlyVerified,
    /// It is not verified, but newer than any that is.
    NewerThanVerified,
    /// It is not verified, but there is none that is.
    NoneVerified,
    /// It is not verified and so counts for nothing, but if it was, it would stay for these reasons.
    IfVerified(Vec<Reason>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counted { rule, place, of, is_oldest } => {
                write!(f, "{rule} {place} of {of}{}", if *is_oldest { " (the oldest)" } else { "" })
            }
            Self::Within(span) => write!(f, "within {span}"),
            Self::NewestVerified => f.write_str("the newest verified backup"),
            Self::OnlyVerified => f.write_str("the only verified backup"),
            Self::NewerThanVerified => f.write_str("not verified, but newer than any that is"),
            Self::NoneVerified => f.write_str("not verified, but none is"),
            Self::IfVerified(reasons) => {
                write!(f, "not verified; if it was: {}", Decision::Keep(reasons.clone()))
            }
        }
    }
}

/// A rule that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The newest ones.
    Last,
    /// One of each hour.
    Hourly,
    /// One of each day.
    Daily,
    /// One of each ISO week.
    Weekly,
    /// One of each month.
    Monthly,
    /// One of each year.
    Yearly,
    /// Those of the day of [`WeeklyBackupDay`](crate::WeeklyBackupDay).
    OfWeeklyBackupDay,
    /// Those of all other days.
    OfOtherDays,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily | Self::OfOtherDays => "daily",
            Self::Weekly | Self::OfWeeklyBackupDay => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

/// What is wrong with a backup that is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Oddity {
    /// Nobody can tell when it was made.
    NoTime,
    /// It was made after now: this clock is wrong, or that one was.
    InTheFuture,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTime => "left alone: its name or manifest tells no time",
            Self::InTheFuture => "left alone: its time is in the future",
        })
    }
}

/// Decides on each of `candidates`; the decisions are in their order. `now` is only used to find times in the future.
///
/// Whatever the policy says:
///
/// - the newest verified backup of a source stays;
/// - a backup that is not verified counts for nothing, so it never takes the place of one that is. It stays as long as it
///   would if it was verified, when it is newer than all that are, and when none is;
/// - a time in the future, or none that can be read, is left alone.
///
/// Deciding again on what stays removes nothing more.
#[must_use]
pub fn decide(policy: &Policy, now: DateTime<Utc>, candidates: &[Candidate]) -> Vec<Decision> {
    let mut decisions = vec![Decision::Remove; candidates.len()];
    let mut sources: BTreeMap<&str, Vec<Dated<'_>>> = BTreeMap::new();
    for (index, candidate) in candidates.iter().enumerate() {
        match candidate.time.filter(|time| (0..=9999).contains(&time.year())) {
            None => decisions[index] = Decision::LeaveAlone(Oddity::NoTime),
            Some(time) if time > now => decisions[index] = Decision::LeaveAlone(Oddity::InTheFuture),
            Some(time) => sources.entry(&candidate.source).or_default().push(Dated { index, time, candidate }),
        }
    }
    for mut backups in sources.into_values() {
        backups.sort_by(|a, b| (b.time, &b.candidate.name, b.index).cmp(&(a.time, &a.candidate.name, a.index)));
        for (index, reasons) in of_one_source(policy, &backups) {
            decisions[index] = Decision::Keep(reasons);
        }
    }
    decisions
}

/// A candidate with its place in the input.
#[derive(Clone, Copy)]
struct Dated<'a> {
    index: usize,
    time: DateTime<Utc>,
    candidate: &'a Candidate,
}

/// Those that stay, and why. `backups` are of one source, the newest first.
fn of_one_source(policy: &Policy, backups: &[Dated<'_>]) -> Vec<(usize, Vec<Reason>)> {
    let verified: Vec<_> = backups.iter().filter(|backup| backup.candidate.verified).copied().collect();
    let mut kept = Vec::new();
    for (place, (backup, mut reasons)) in verified.iter().zip(reasons(policy, &verified)).enumerate() {
        if place == 0 {
            reasons.insert(0, if verified.len() == 1 { Reason::OnlyVerified } else { Reason::NewestVerified });
        }
        kept.push((backup.index, reasons));
    }
    if verified.len() < backups.len() {
        let mut is_newer = true;
        for (backup, reasons) in backups.iter().zip(reasons(policy, backups)) {
            if backup.candidate.verified {
                is_newer = false;
                continue;
            }
            let mut why = Vec::new();
            if verified.is_empty() {
                why.push(Reason::NoneVerified);
            } else if is_newer {
                why.push(Reason::NewerThanVerified);
            }
            if !reasons.is_empty() {
                why.push(Reason::IfVerified(reasons));
            }
            kept.push((backup.index, why));
        }
    }
    kept.retain(|(_, reasons)| !reasons.is_empty());
    kept
}

/// For each of `backups`, the newest first, the rules that keep it.
fn reasons(policy: &Policy, backups: &[Dated<'_>]) -> Vec<Vec<Reason>> {
    let rules = policy.rules();
    let zone = rules.time_zone;
    let mut reasons = vec![Vec::new(); backups.len()];
    if let (Some(span), Some(newest)) = (rules.within, backups.first()) {
        let start = span.before(newest.time, zone);
        for (reasons, _) in reasons.iter_mut().zip(backups).filter(|(_, backup)| backup.time >= start) {
            reasons.push(Reason::Within(span));
        }
    }
    if let Some(of) = rules.last {
        each(&mut reasons, backups, |_| true, Rule::Last, of);
    }
    let periods: [(Rule, Option<Count>, PeriodOf); 5] = [
        (Rule::Hourly, rules.hourly, |local| (local.time.year(), hour_of_year(local.time), local.offset)),
        (Rule::Daily, rules.daily, |local| (local.time.year(), local.time.ordinal(), 0)),
        (Rule::Weekly, rules.weekly, |local| (local.time.iso_week().year(), local.time.iso_week().week(), 0)),
        (Rule::Monthly, rules.monthly, |local| (local.time.year(), local.time.month(), 0)),
        (Rule::Yearly, rules.yearly, |local| (local.time.year(), 0, 0)),
    ];
    for (rule, of, period) in periods {
        if let Some(of) = of {
            one_of_each(&mut reasons, backups, |backup| period(Local::of(backup.time, zone)), rule, of);
        }
    }
    if let Some(documented) = rules.weekly_backup_day {
        let is_of_day = |backup: &Dated<'_>| Local::of(backup.time, zone).time.weekday() == documented.day;
        if let Some(of) = documented.weekly {
            each(&mut reasons, backups, is_of_day, Rule::OfWeeklyBackupDay, of);
        }
        if let Some(of) = documented.daily {
            each(&mut reasons, backups, |backup| !is_of_day(backup), Rule::OfOtherDays, of);
        }
    }
    reasons
}

/// Counts backups.
fn each(
    reasons: &mut [Vec<Reason>],
    backups: &[Dated<'_>],
    is_meant: impl Fn(&Dated<'_>) -> bool,
    rule: Rule,
    of: Count,
) {
    let meant = reasons.iter_mut().zip(backups).filter(|(_, backup)| is_meant(backup));
    for (place, (reasons, _)) in (1..).zip(meant).take_while(|(place, _)| of.includes(*place)) {
        reasons.push(Reason::Counted { rule, place, of, is_oldest: false });
    }
}

/// Counts periods with a backup, and keeps the newest one of each.
fn one_of_each(
    reasons: &mut [Vec<Reason>],
    backups: &[Dated<'_>],
    period: impl Fn(&Dated<'_>) -> Period,
    rule: Rule,
    of: Count,
) {
    let mut place = 0;
    // Not only the period before: a clock that is set back just after midnight shows a day twice.
    let mut periods = HashSet::new();
    for (at, (reasons, backup)) in reasons.iter_mut().zip(backups).enumerate() {
        let is_first = periods.insert(period(backup));
        if is_first || at + 1 == backups.len() {
            place += 1;
            if !of.includes(place) {
                break;
            }
            reasons.push(Reason::Counted { rule, place, of, is_oldest: !is_first });
        }
    }
}

/// Tells periods of one kind apart.
type Period = (i32, u32, i32);
type PeriodOf = fn(Local) -> Period;

/// What a clock showed.
#[derive(Clone, Copy)]
struct Local {
    time: NaiveDateTime,
    /// The seconds that it was ahead of UTC: the hour that a clock shows twice is two hours.
    offset: i32,
}

impl Local {
    fn of(time: DateTime<Utc>, zone: Tz) -> Self {
        let offset = zone.offset_from_utc_datetime(&time.naive_utc()).fix();
        Self { time: time.with_timezone(&zone).naive_local(), offset: offset.local_minus_utc() }
    }
}

fn hour_of_year(time: NaiveDateTime) -> u32 {
    time.ordinal0() * 24 + time.hour()
}
