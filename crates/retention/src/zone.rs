//! Times on the clock of a time zone.

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// When the clock of `zone` showed `time`: the first time where it did so twice. A time that it passed over is taken as if it
/// had not been put forward yet.
pub(crate) fn instant(time: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    match zone.from_local_datetime(&time) {
        LocalResult::Single(found) | LocalResult::Ambiguous(found, _) => found.with_timezone(&Utc),
        LocalResult::None => {
            // No clock is put forward by more than a day.
            let before = time.checked_sub_signed(TimeDelta::days(1)).unwrap_or(time);
            let offset = zone.offset_from_utc_datetime(&before).fix();
            time.checked_sub_offset(offset).unwrap_or(time).and_utc()
        }
    }
}
