//! `backup explain`: which backups stay, and why.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use retention::{Count, Policy, Rules};
use serde::Serialize;
use terminal::text::{size, table};

use super::Context;
use super::prune::decisions;
use crate::catalog::{self, Unreadable, unreadable};
use crate::explain::{BEGIN, Item, calendar, months, page};
use crate::failure::Failure;
use crate::files;

/// The picture in JSON.
#[derive(Serialize)]
struct Explained<'a> {
    version: u32,
    job: &'a str,
    policy: String,
    time_zone: &'a str,
    backups: Vec<Line>,
    /// What cannot be used, and is left alone.
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
struct Line {
    id: String,
    time: DateTime<Utc>,
    bytes: u64,
    verified: bool,
    stays: bool,
    why: String,
}

/// That a page can be written there: nothing is replaced but an older page.
fn expect_ours(path: &Path) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        return Err(Failure::new("standard output is for the picture as text", "give the name of a file for the page"));
    }
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGIN.len() as u64).read_to_end(&mut begin));
    match read {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Ok(_) if begin == BEGIN.as_bytes() => Ok(()),
        Ok(_) => {
            let message = format!("`{}` is there, and is no page of `backup explain`", path.display());
            Err(Failure::new(message, "use another name, or move away what is there"))
        }
        Err(e) => Err(e).with_context(|| format!("cannot see what `{}` is", path.display())).map_err(Failure::from),
    }
}

pub(crate) async fn run(context: &Context, name: &str, html: Option<&Path>) -> Result<(), Failure> {
    html.map_or(Ok(()), expect_ours)?;
    let job = catalog::job(&context.config, name)?;
    let policy = catalog::policy(&job)?;
    let now = (context.now)();
    let catalog = catalog::open(&context.config, &job, now).await?;
    let listing = catalog.list().await?;
    let items = decisions(policy, now, &listing).into_iter().map(|(id, manifest, decision)| Item {
        id: id.to_string(),
        time: id.time(),
        verified: manifest.is_verified(),
        bytes: manifest.bytes(),
        decision,
    });
    let items: Vec<_> = items.collect();
    let said = in_words(policy);
    let unreadable = unreadable(&listing);
    if let Some(path) = html {
        files::replace(path, &page(name, &said, &items, &unreadable, job.time_zone))?;
    }
    if context.is_json() {
        let backups = items.into_iter().map(|item| Line {
            stays: !item.decision.is_removal(),
            why: item.decision.to_string(),
            id: item.id,
            time: item.time,
            bytes: item.bytes,
            verified: item.verified,
        });
        let (policy, time_zone, backups) = (said, job.time_zone.name(), backups.collect());
        terminal::print_json(&Explained { version: 1, job: name, policy, time_zone, backups, unreadable })?;
        return Ok(());
    }
    let mut text = format!("{name}: {said}; days of {}\n\n", job.time_zone);
    if items.is_empty() && unreadable.is_empty() {
        terminal::print(&format!("{text}no backup\n"))?;
        return Ok(());
    }
    text += &calendar(&months(&items, job.time_zone));
    let rows = items.iter().rev().map(|item| {
        let what = if item.decision.is_removal() { "goes" } else { "stays" };
        vec![item.id.clone(), size(item.bytes), what.to_owned(), item.decision.to_string()]
    });
    let left_alone = unreadable.into_iter().map(|it| vec![it.id, String::new(), "is left alone".to_owned(), it.why]);
    text += &format!("\n{}", table(&["Backup", "Size", "", "Why"], &[1], rows.chain(left_alone)));
    terminal::print(&text)?;
    Ok(())
}

/// What a policy keeps.
fn in_words(policy: &Policy) -> String {
    let Rules { last, hourly, daily, weekly, monthly, yearly, within, weekly_backup_day, time_zone: _ } =
        policy.rules();
    let counts = [
        ("last", last),
        ("hourly", hourly),
        ("daily", daily),
        ("weekly", weekly),
        ("monthly", monthly),
        ("yearly", yearly),
    ];
    let mut words: Vec<_> =
        counts.iter().filter_map(|(name, count)| count.map(|count| format!("{name} {count}"))).collect();
    words.extend(within.map(|span| format!("all within {span} of the newest")));
    if let Some(of_day) = weekly_backup_day {
        let number = |count: Option<Count>| count.map_or("none".to_owned(), |count| count.to_string());
        let (weekly, daily) = (number(of_day.weekly), number(of_day.daily));
        words.push(format!("{weekly} made on a {}, {daily} of other days", day_name(of_day.day)));
    }
    format!("keeps {}", words.join(", "))
}

fn day_name(day: chrono::Weekday) -> &'static str {
    use chrono::Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    match day {
        Mon => "Monday",
        Tue => "Tuesday",
        Wed => "Wednesday",
        Thu => "Thursday",
        Fri => "Friday",
        Sat => "Saturday",
        Sun => "Sunday",
    }
}
