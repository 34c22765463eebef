//! Which source is backed up to which destination, and what is kept.

use std::path::PathBuf;
use std::time::Duration;

use chrono::Weekday;
use chrono_tz::Tz;
use pgmig_core::config_file::{Fault, list};
use retention::{Count, Policy, Rules, Span, WeeklyBackupDay};
use secrecy::SecretString;
use storage_backends::Key;

use super::keys::Keys;
use super::section::Section;

/// Which source is backed up to which destination, and what is kept.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its name, which is that of its folder in the destination too.
    pub(crate) name: Key,
    /// The name of its source.
    pub(crate) source: String,
    /// The name of its destination.
    pub(crate) destination: String,
    /// Its backups lie at the root of the destination, not in a folder with its name.
    pub(crate) at_root: bool,
    /// What its backups are encrypted and signed with.
    pub(crate) keys: Keys,
    /// Which backups are kept; all when there is none.
    pub(crate) retention: Option<Policy>,
    /// Whose days and hours are shown.
    pub(crate) time_zone: Tz,
    /// How old what a killed run left behind has to be before it is removed.
    pub(crate) clean_up_after: Duration,
    /// A file for OpenMetrics text.
    pub(crate) metrics_file: Option<PathBuf>,
    /// What is asked for when a run has succeeded.
    pub(crate) success_url: Option<SecretString>,
    /// What is asked for when a run has failed.
    pub(crate) failure_url: Option<SecretString>,
}

impl Job {
    pub(super) fn read(
        name: &str,
        mut section: Section<'_>,
        sources: &[String],
        destinations: &[String],
    ) -> Result<Self, Vec<Fault>> {
        let source = one_of(&mut section, "source", sources);
        let destination = one_of(&mut section, "destination", destinations);
        let at_root = section.flag("at-root").unwrap_or(false);
        let keys = Keys::read(&mut section);
        let retention = match section.section("retention") {
            Some(rules) => section.take(policy(rules)).map(Some),
            None => Some(None),
        };
        let hours = "a number of hours, at least 1: a run that is at work says so only now and then, and would be taken for a killed one";
        let hours = section.parsed("clean-up-after-hours", hours, |text| text.parse::<u32>().ok().filter(|it| *it > 0));
        let clean_up_after = Duration::from_secs(u64::from(hours.unwrap_or(24)) * 60 * 60);
        let metrics_file = section.path("metrics-file");
        let success_url = url(&mut section, "success-url");
        let failure_url = url(&mut section, "failure-url");
        let name: Option<Key> = name.parse().ok();
        let job =
            name.zip(source).zip(destination).zip(retention).map(|(((name, source), destination), retention)| Self {
                name,
                source,
                destination,
                at_root,
                keys,
                time_zone: retention.as_ref().map_or(Tz::UTC, |policy| policy.rules().time_zone),
                retention,
                clean_up_after,
                metrics_file,
                success_url,
                failure_url,
            });
        section.finish(job)
    }
}

/// Where the backups of a job are, whatever else is wrong with that: the name of the destination, and whether they are at its root.
pub(super) fn place(mut section: Section<'_>, destinations: &[String]) -> Result<(String, bool), Vec<Fault>> {
    let destination = one_of(&mut section, "destination", destinations);
    let at_root = section.flag("at-root").unwrap_or(false);
    section.finish_unread(destination.map(|destination| (destination, at_root)))
}

/// A URL, which can hold a token: no fault quotes it.
fn url(section: &mut Section<'_>, key: &'static str) -> Option<SecretString> {
    let (line, url) = section.text_at(key)?;
    if !url.starts_with("https://") && !url.starts_with("http://") {
        section.fault(line, format!("`{key}` must be a URL that begins with `https://` or `http://`"));
    }
    Some(url.into())
}

fn one_of(section: &mut Section<'_>, key: &'static str, names: &[String]) -> Option<String> {
    let (line, name) = section.required_text_at(key)?;
    if names.contains(&name) {
        return Some(name);
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    section.fault(line, format!("`{key}` is not the name of one; there are {}", list(&names)));
    None
}

fn policy(mut section: Section<'_>) -> Result<Policy, Vec<Fault>> {
    let counts = ["keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly"];
    let counts = counts.map(|key| count(&mut section, key));
    let [last, hourly, daily, weekly, monthly, yearly] = counts.map(Option::flatten);
    let within =
        section.parsed("keep-within", "a length of time such as `1y6m14d12h`", |text| text.parse::<Span>().ok());
    let day = section.parsed("weekly-backup-day", "a day of the week, or its number from 0 for Sunday to 6", weekday);
    let time_zone =
        section.parsed("time-zone", "the name of a time zone, such as `Europe/Berlin`", |text| text.parse().ok());
    let mut rules = Rules { last, hourly, monthly, yearly, within, ..Rules::default() };
    rules.time_zone = time_zone.unwrap_or(Tz::UTC);
    match day {
        // With such a day the two are the product's, which count backups. What is not said is as the product has it: not none.
        Some(day) => {
            let documented = WeeklyBackupDay::documented(day);
            let (daily, weekly) = (counts[2].unwrap_or(documented.daily), counts[3].unwrap_or(documented.weekly));
            rules.weekly_backup_day = Some(WeeklyBackupDay { day, weekly, daily });
        }
        None => (rules.daily, rules.weekly) = (daily, weekly),
    }
    let policy = match Policy::try_from(rules) {
        Ok(policy) => Some(policy),
        // What a rule with a fault would keep is not known.
        Err(_) if section.has_faults() => None,
        Err(empty) => {
            section.fault(section.line(), format!("{empty}; {}", empty.hint()));
            None
        }
    };
    section.finish(policy)
}

/// How many, if it is said; 0 is no rule, as in the product's settings.
fn count(section: &mut Section<'_>, key: &'static str) -> Option<Option<Count>> {
    section.parsed(key, "a number, or `unlimited`", |text| match text {
        "0" => Some(None),
        text => text.parse::<Count>().ok().map(Some),
    })
}

fn weekday(text: &str) -> Option<Weekday> {
    match text.parse::<u8>() {
        Ok(0) => Some(Weekday::Sun),
        Ok(number) => Weekday::try_from(number.checked_sub(1)?).ok().filter(|_| number <= 6),
        Err(_) => text.parse().ok(),
    }
}
