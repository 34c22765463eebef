//! The retention picture: which days have backups, and what becomes of them.

mod html;
mod text;

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use retention::Decision;

pub(crate) use html::{BEGIN, page};
pub(crate) use text::calendar;

/// A backup in the picture.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) time: DateTime<Utc>,
    pub(crate) verified: bool,
    pub(crate) bytes: u64,
    pub(crate) decision: Decision,
}

/// What becomes of the backups of one day, by the best of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    /// All go.
    Removed,
    /// One stays, which is not verified.
    Unverified,
    /// A verified one stays.
    Kept,
}

/// The days of one month in ISO weeks, from Monday to Sunday.
#[derive(Debug)]
pub(crate) struct Month {
    /// Its first day.
    pub(crate) first: NaiveDate,
    pub(crate) weeks: Vec<Week>,
}

#[derive(Debug)]
pub(crate) struct Week {
    /// The number of the ISO week.
    pub(crate) number: u32,
    pub(crate) days: [Option<Day>; 7],
}

#[derive(Debug, Clone)]
pub(crate) struct Day {
    pub(crate) date: NaiveDate,
    /// `None` on a day without a backup.
    pub(crate) mark: Option<Mark>,
    /// Its backups and what becomes of them, for people.
    pub(crate) items: Vec<String>,
}

/// The months that have backups, the oldest first. Days are those of `zone`.
pub(crate) fn months(items: &[Item], zone: Tz) -> Vec<Month> {
    let mut days: BTreeMap<NaiveDate, Vec<&Item>> = BTreeMap::new();
    for item in items {
        days.entry(item.time.with_timezone(&zone).date_naive()).or_default().push(item);
    }
    let mut firsts: Vec<_> = days.keys().filter_map(|day| day.with_day(1)).collect();
    firsts.dedup();
    firsts.into_iter().map(|first| month(first, &days)).collect()
}

fn month(first: NaiveDate, days: &BTreeMap<NaiveDate, Vec<&Item>>) -> Month {
    let mut weeks: Vec<Week> = Vec::new();
    // At most 31; the calendar has an end.
    let dates = (0..31).map_while(|index| first.checked_add_days(Days::new(index)));
    for date in dates.take_while(|date| date.month() == first.month()) {
        let number = date.iso_week().week();
        if weeks.last().is_none_or(|week| week.number != number) {
            weeks.push(Week { number, days: Default::default() });
        }
        let items = days.get(&date).map_or(&[][..], Vec::as_slice);
        let mark = items.iter().map(|item| mark(item)).max();
        let items = items.iter().map(|item| format!("{}: {}", item.id, item.decision)).collect();
        if let Some(week) = weeks.last_mut() {
            week.days[date.weekday().num_days_from_monday() as usize] = Some(Day { date, mark, items });
        }
    }
    Month { first, weeks }
}

pub(crate) fn mark(item: &Item) -> Mark {
    match (&item.decision, item.verified) {
        (Decision::Remove, _) => Mark::Removed,
        (_, true) => Mark::Kept,
        (_, false) => Mark::Unverified,
    }
}

#[cfg(test)]
mod tests {
    use retention::Reason;

    use super::*;

    fn item(id: &str, time: &str, verified: bool, decision: Decision) -> Item {
        Item { id: id.into(), time: time.parse().expect("a time"), verified, bytes: 1 << 20, decision }
    }

    fn items() -> Vec<Item> {
        let kept = || Decision::Keep(vec![Reason::NewestVerified]);
        vec![
            item("a", "2025-12-30T22:30:00Z", true, Decision::Remove),
            // The next day in Berlin, and the first ISO week of the next year.
            item("b", "2025-12-30T23:30:00Z", false, kept()),
            item("c", "2026-02-01T10:00:00Z", true, kept()),
            item("d", "2026-02-01T09:00:00Z", true, Decision::Remove),
        ]
    }

    #[test]
    fn days_are_those_of_the_zone_and_weeks_those_of_iso() {
        let months = months(&items(), chrono_tz::Europe::Berlin);
        assert_eq!(
            months.iter().map(|month| month.first.to_string()).collect::<Vec<_>>(),
            ["2025-12-01", "2026-02-01"]
        );
        let last = months[0].weeks.last().expect("weeks");
        assert_eq!(last.number, 1);
        let marks: Vec<_> = last.days.iter().map(|day| day.as_ref().and_then(|day| day.mark)).collect();
        assert_eq!(marks, [None, Some(Mark::Removed), Some(Mark::Unverified), None, None, None, None]);
        // A Sunday, and the only day of its week in this month.
        assert_eq!(months[1].weeks[0].number, 5);
        assert_eq!(months[1].weeks[0].days[6].as_ref().and_then(|day| day.mark), Some(Mark::Kept));
    }

    #[test]
    fn the_calendar_reads_as_one() {
        let text = calendar(&months(&items(), chrono_tz::Europe::Berlin));
        assert!(text.contains("December 2025\n"), "{text}");
        assert!(text.contains("  W01    29   30x  31?\n"), "{text}");
        assert!(text.contains(&format!("  W05{:35}1*\n", "")), "{text}");
    }

    #[test]
    fn the_page_names_every_backup_and_runs_nothing_from_a_name() {
        let mut items = items();
        items[0].id = "<script>".into();
        let page = page("nightly", "daily 6", &items, &[], chrono_tz::UTC);
        assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("the newest verified backup"), "{page}");
    }
}
