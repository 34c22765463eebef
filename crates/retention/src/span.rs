//! A length of time on the calendar.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Months, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::zone;

/// A length of time as the calendar has it: years and months are as long as they are. Written as in `1y6m14d12h`.
///
/// ```
/// let span: retention::Span = "1y6m".parse()?;
/// assert_eq!(span.to_string(), "1y6m");
/// # Ok::<(), retention::SpanError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    months: u32,
    days: u32,
    hours: u32,
}

impl Span {
    /// The time that much before `end`, on the clock of `zone`. Days are those of the calendar, though one may have 23 or
    /// 25 hours; the last day of a shorter month stands for those that it lacks. The earliest time that there is, when that is
    /// later.
    pub(crate) fn before(self, end: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
        let local = end.with_timezone(&zone).naive_local();
        let date = local
            .checked_sub_months(Months::new(self.months))
            .and_then(|time: NaiveDateTime| time.checked_sub_signed(TimeDelta::days(self.days.into())));
        let start = date.map(|time| zone::instant(time, zone));
        let start = start.and_then(|time| time.checked_sub_signed(TimeDelta::hours(self.hours.into())));
        start.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError { text: text.to_owned() };
        let mut amounts = [0u32; 4];
        let (mut rest, mut first) = (text, 0);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = rest.split_at(digits);
            let unit_at = unit.chars().next().and_then(|unit| UNITS[first..].find(unit)).ok_or_else(error)?;
            amounts[first + unit_at] = number.parse().map_err(|_| error())?;
            // Each unit once, the largest first.
            (rest, first) = (&unit[1..], first + unit_at + 1);
        }
        let [years, months, days, hours] = amounts;
        let months = years.checked_mul(12).and_then(|years| years.checked_add(months)).ok_or_else(error)?;
        let span = Self { months, days, hours };
        if (months, days, hours) == (0, 0, 0) { Err(error()) } else { Ok(span) }
    }
}

const UNITS: &str = "ymdh";

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amounts = [(self.months / 12, 'y'), (self.months % 12, 'm'), (self.days, 'd'), (self.hours, 'h')];
        amounts.iter().filter(|(amount, _)| *amount > 0).try_for_each(|(amount, unit)| write!(f, "{amount}{unit}"))
    }
}

/// A text that is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a length of time such as `1y6m14d12h`: years, months, days, hours, in this order")]
pub struct SpanError {
    text: String,
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use chrono_tz::Europe::Berlin;

    use super::*;

    fn before(span: &str, end: (i32, u32, u32, u32)) -> String {
        let (year, month, day, hour) = end;
        let end = Berlin.with_ymd_and_hms(year, month, day, hour, 0, 0).earliest().expect("there is such a time");
        let start = span.parse::<Span>().expect("a span").before(end.with_timezone(&Utc), Berlin);
        start.with_timezone(&Berlin).to_rfc3339()
    }

    #[test]
    fn what_is_printed_is_read_as_the_same_and_what_is_odd_is_refused() {
        for text in ["1h", "14d", "6m", "2y", "1y5m7d2h", "4294967295d"] {
            assert_eq!(text.parse::<Span>().expect("a span").to_string(), text);
        }
        assert_eq!("18m".parse(), "1y6m".parse::<Span>());
        for text in
            ["", "0d", "1", "d", "1w", "1d1d", "1h1d", "-1d", "+1d", "1 d", "1D", "4294967296d", "400000000y", "1é"]
        {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn months_and_days_are_those_of_the_calendar() {
        assert_eq!(before("1m", (2024, 3, 31, 12)), "2024-02-29T12:00:00+01:00");
        assert_eq!(before("1y", (2024, 2, 29, 12)), "2023-02-28T12:00:00+01:00");
        // Over the night with 23 hours.
        assert_eq!(before("1d", (2024, 3, 31, 12)), "2024-03-30T12:00:00+01:00");
        assert_eq!(before("24h", (2024, 3, 31, 12)), "2024-03-30T11:00:00+01:00");
        // A time that the clock passed over.
        assert_eq!(before("1d", (2024, 4, 1, 2)), "2024-03-31T03:00:00+02:00");
        assert_eq!(
            "400000y".parse::<Span>().expect("a span").before(Utc.timestamp_nanos(0), Berlin),
            DateTime::<Utc>::MIN_UTC
        );
    }
}
