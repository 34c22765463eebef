//! What it takes to decide on 100,000 backups: a job that ran every hour for eleven years, and policies of every kind.

use std::hint::black_box;

use chrono::{DateTime, TimeDelta, Utc, Weekday};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retention::{Candidate, Count, Policy, Rules, WeeklyBackupDay, decide};

const BACKUPS: i32 = 100_000;

fn decisions(c: &mut Criterion) {
    let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().expect("a time");
    let backups: Vec<_> = (0..BACKUPS)
        .map(|hour| {
            let time = now - TimeDelta::hours(hour.into());
            Candidate {
                source: "store".into(),
                name: time.to_rfc3339(),
                time: Some(time),
                // Now and then one is not.
                verified: hour % 50 != 7,
            }
        })
        .collect();
    let berlin = chrono_tz::Europe::Berlin;
    let documented = Rules {
        weekly_backup_day: Some(WeeklyBackupDay::documented(Weekday::Sun)),
        time_zone: berlin,
        ..Rules::default()
    };
    let restic = Rules {
        last: Count::newest(10),
        hourly: Count::newest(48),
        daily: Count::newest(60),
        weekly: Count::newest(100),
        monthly: Count::newest(60),
        yearly: Some(Count::Unlimited),
        within: "14d".parse().ok(),
        ..documented.clone()
    };
    let mut group = c.benchmark_group("retention, 100,000 backups");
    group.sample_size(10).throughput(Throughput::Elements(BACKUPS as u64));
    for (name, rules) in [("documented", documented), ("every rule", restic)] {
        let policy = Policy::try_from(rules).expect("it keeps something");
        group.bench_function(name, |b| b.iter(|| black_box(decide(&policy, now, &backups))));
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
