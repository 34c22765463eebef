//! The picture as a page: one file, without scripts, that needs no network.

use std::fmt::Write as _;

use chrono::Datelike as _;
use chrono_tz::Tz;
use terminal::text::size;

use super::{Day, Item, Mark, Month, mark, months};
use crate::catalog::Unreadable;

/// Of a square for a day, with the gap to the next one.
const CELL: usize = 26;
const LEFT: usize = 44;
const TOP: usize = 44;

const STYLE: &str = "
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; background: #fff }
svg { margin: 0 1.5em 1em 0; vertical-align: top } svg text { font-size: 11px; fill: #444; text-anchor: middle }
svg .title { font-size: 14px; text-anchor: start; font-weight: 600 } svg .week { fill: #777 }
.none { fill: #f0f0f0 } .kept { fill: #2f855a } .unverified { fill: #d69e2e } .removed { fill: #fff; stroke: #a0aec0; stroke-dasharray: 2 }
svg .on { fill: #fff } table { border-collapse: collapse } th, td { text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #ddd }
td.size { text-align: right } @media (prefers-color-scheme: dark) { body { color: #ddd; background: #1a1a1a } svg text { fill: #bbb }
.none { fill: #2d2d2d } .removed { fill: #1a1a1a } th, td { border-color: #444 } }
";

/// What every page begins with.
pub(crate) const BEGIN: &str = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"generator\" content=\"backup explain\">";

/// The page for a job. `policy` is what it keeps, in words.
pub(crate) fn page(job: &str, policy: &str, items: &[Item], unreadable: &[Unreadable], zone: Tz) -> String {
    let title = escape(&format!("Backups of {job}"));
    let mut page = format!(
        "{BEGIN}<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n<p>{}; days of {}</p>\n<p>{}</p>\n",
        escape(policy),
        escape(zone.name()),
        "Green: a verified backup stays. Yellow: one that is not verified stays. Dashed: goes with the next pruning."
    );
    for month in months(items, zone) {
        picture(&month, &mut page);
    }
    page += "<table>\n<tr><th>Backup</th><th>Begun</th><th>Size</th><th>Verified</th><th></th><th>Why</th></tr>\n";
    for item in items.iter().rev() {
        let time = item.time.with_timezone(&zone).format("%F %T %Z").to_string();
        let what = if mark(item) == Mark::Removed { "goes" } else { "stays" };
        let verified = if item.verified { "yes" } else { "no" };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"size\">{}</td><td>{verified}</td><td>{what}</td><td>{}</td></tr>",
            escape(&item.id),
            escape(&time),
            escape(&size(item.bytes)),
            escape(&item.decision.to_string())
        );
    }
    for Unreadable { id, why } in unreadable {
        let (id, why) = (escape(id), escape(why));
        let _ = writeln!(page, "<tr><td>{id}</td><td></td><td></td><td></td><td>is left alone</td><td>{why}</td></tr>");
    }
    page + "</table>\n</body></html>\n"
}

fn picture(month: &Month, page: &mut String) {
    let (width, height) = (LEFT + 7 * CELL, TOP + month.weeks.len() * CELL);
    let name = month.first.format("%B %Y");
    let _ = writeln!(
        page,
        "<svg width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{name}\">\
         <text class=\"title\" x=\"{LEFT}\" y=\"16\">{name}</text>"
    );
    for (column, name) in ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"].iter().enumerate() {
        let x = LEFT + column * CELL + CELL / 2;
        let _ = writeln!(page, "<text x=\"{x}\" y=\"{}\">{name}</text>", TOP - 8);
    }
    for (row, week) in month.weeks.iter().enumerate() {
        let y = TOP + row * CELL;
        let _ = writeln!(page, "<text class=\"week\" x=\"{}\" y=\"{}\">W{:02}</text>", LEFT / 2, y + 16, week.number);
        for (column, day) in week.days.iter().enumerate() {
            if let Some(day) = day {
                square(day, LEFT + column * CELL, y, page);
            }
        }
    }
    *page += "</svg>\n";
}

fn square(day: &Day, x: usize, y: usize, page: &mut String) {
    let (class, text) = match day.mark {
        None => ("none", ""),
        Some(Mark::Kept) => ("kept", "on"),
        Some(Mark::Unverified) => ("unverified", "on"),
        Some(Mark::Removed) => ("removed", ""),
    };
    let side = CELL - 4;
    let mut title = day.date.to_string();
    for item in &day.items {
        title = format!("{title}\n{item}");
    }
    let (middle, base, number) = (x + side / 2, y + 15, day.date.day());
    let _ = writeln!(
        page,
        "<g><title>{}</title><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" rx=\"4\"/>\
         <text class=\"{text}\" x=\"{middle}\" y=\"{base}\">{number}</text></g>",
        escape(&title)
    );
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c => escaped.push(c),
        }
    }
    escaped
}
