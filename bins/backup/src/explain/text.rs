//! The picture in a terminal.

use chrono::Datelike as _;

use super::{Mark, Month};

/// A calendar of the months, with a mark behind each day that has backups.
pub(crate) fn calendar(months: &[Month]) -> String {
    let mut text = String::new();
    for month in months {
        text += &format!("{}\n         Mo   Tu   We   Th   Fr   Sa   Su\n", month.first.format("%B %Y"));
        for week in &month.weeks {
            let mut line = format!("  W{:02}  ", week.number);
            for day in &week.days {
                line += &match day {
                    // The mark stands in the space before the next number.
                    Some(day) => format!("{:>4}{}", day.date.day(), sign(day.mark)),
                    None => " ".repeat(5),
                };
            }
            text += line.trim_end();
            text.push('\n');
        }
        text.push('\n');
    }
    text += "* a verified backup stays   ? one that is not verified stays   x goes with the next `backup prune`\n";
    text
}

fn sign(mark: Option<Mark>) -> char {
    match mark {
        None => ' ',
        Some(Mark::Kept) => '*',
        Some(Mark::Unverified) => '?',
        Some(Mark::Removed) => 'x',
    }
}
