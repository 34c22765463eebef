//! Decisions, compared with what each rule says in so many words.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use proptest::prelude::*;
use retention::{Candidate, Count, Decision, Oddity, Policy, Reason, Rule, Rules, Span, WeeklyBackupDay, decide};

fn candidate(source: &str, name: &str, time: &str, verified: bool) -> Candidate {
    Candidate { source: source.into(), name: name.into(), time: time.parse().ok(), verified }
}

fn policy(rules: Rules) -> Policy {
    Policy::try_from(rules).expect("some rule keeps something")
}

fn at(time: &str) -> DateTime<Utc> {
    time.parse().expect("a time")
}

/// What is said of verified backups of one source, made at these times.
fn said(rules: &Rules, times: &[&str]) -> Vec<String> {
    let candidates: Vec<_> = times.iter().map(|time| candidate("store", time, time, true)).collect();
    decide(&policy(rules.clone()), at("2100-01-01T00:00:00Z"), &candidates).iter().map(ToString::to_string).collect()
}

const NO_RULE: &str = "no rule keeps it";

#[test]
fn the_documented_policy_counts_backups_of_the_day_and_of_all_others() {
    let rules = Rules { weekly_backup_day: Some(WeeklyBackupDay::documented(Weekday::Sun)), ..Rules::default() };
    // 2026-11-22 is a Sunday.
    let mut times: Vec<String> =
        (0..60).map(|day| (at("2026-11-24T23:00:00Z") - TimeDelta::days(day)).to_rfc3339()).collect();
    times.push("2026-11-22T12:00:00Z".into());
    let times: Vec<&str> = times.iter().map(String::as_str).collect();
    let said = said(&rules, &times);
    assert_eq!(
        &said[..4],
        ["the newest verified backup, daily 1 of 6", "daily 2 of 6", "weekly 1 of 4", "daily 3 of 6"]
    );
    // Two of one Sunday are two.
    assert_eq!(said[60], "weekly 2 of 4");
    assert_eq!((&said[9], &said[16], &said[23]), (&"weekly 3 of 4".into(), &"weekly 4 of 4".into(), &NO_RULE.into()));
    assert_eq!(said.iter().filter(|said| *said != NO_RULE).count(), 10);
}

#[test]
fn a_year_may_end_in_week_1_or_53_of_another() {
    let rules = Rules { weekly: Count::newest(9), yearly: Count::newest(9), ..Rules::default() };
    // 2025-12-30 and 2026-01-01 are in week 1 of 2026, 2026-12-31 and 2027-01-03 in week 53 of 2026, and 2025-01-01 is in
    // week 1 of 2025 as 2024-12-30 is.
    let times = [
        "2027-01-03T12:00:00Z",
        "2026-12-31T12:00:00Z",
        "2026-01-01T12:00:00Z",
        "2025-12-30T12:00:00Z",
        "2025-01-01T12:00:00Z",
        "2024-12-30T12:00:00Z",
    ];
    assert_eq!(
        said(&rules, &times),
        [
            "the newest verified backup, weekly 1 of 9, yearly 1 of 9",
            "yearly 2 of 9",
            "weekly 2 of 9",
            "yearly 3 of 9",
            "weekly 3 of 9",
            "weekly 4 of 9 (the oldest), yearly 4 of 9",
        ]
    );
}

#[test]
fn days_and_hours_are_those_of_the_time_zone() {
    let rules = Rules {
        hourly: Some(Count::Unlimited),
        daily: Some(Count::Unlimited),
        time_zone: chrono_tz::Europe::Berlin,
        ..Rules::default()
    };
    let times = [
        // The clock shows 02:30 twice on 2026-10-25, and 00:30 of the next day is one hour after 23:30.
        "2026-10-25T23:30:00Z",
        "2026-10-25T22:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T00:30:00Z",
        // It passes over 02:30 on 2026-03-29.
        "2026-03-29T01:30:00Z",
        "2026-03-29T00:30:00Z",
        "2026-03-28T22:59:59Z",
    ];
    assert_eq!(
        said(&rules, &times),
        [
            "the newest verified backup, hourly 1 of unlimited, daily 1 of unlimited",
            "hourly 2 of unlimited, daily 2 of unlimited",
            "hourly 3 of unlimited",
            "hourly 4 of unlimited",
            "hourly 5 of unlimited, daily 3 of unlimited",
            "hourly 6 of unlimited",
            "hourly 7 of unlimited, daily 4 of unlimited",
        ]
    );
}

#[test]
fn what_is_not_verified_counts_for_nothing() {
    let rules = Rules { last: Count::newest(2), ..Rules::default() };
    let candidates = [
        candidate("store", "e", "2026-01-05T00:00:00Z", false),
        candidate("store", "d", "2026-01-04T00:00:00Z", true),
        candidate("store", "c", "2026-01-03T00:00:00Z", false),
        candidate("store", "b", "2026-01-02T00:00:00Z", true),
        candidate("store", "a", "2026-01-01T00:00:00Z", true),
        candidate("other", "b", "2026-01-02T00:00:00Z", false),
        candidate("other", "a", "2026-01-01T00:00:00Z", false),
        candidate("other", "0", "2025-01-01T00:00:00Z", false),
        candidate("third", "a", "2024-01-01T00:00:00Z", true),
    ];
    let said: Vec<_> =
        decide(&policy(rules), at("2026-02-01T00:00:00Z"), &candidates).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "not verified, but newer than any that is, not verified; if it was: last 1 of 2",
            "the newest verified backup, last 1 of 2",
            NO_RULE,
            "last 2 of 2",
            NO_RULE,
            "not verified, but none is, not verified; if it was: last 1 of 2",
            "not verified, but none is, not verified; if it was: last 2 of 2",
            "not verified, but none is",
            "the only verified backup, last 1 of 2",
        ]
    );
}

#[test]
fn what_has_no_time_or_one_to_come_is_left_alone() {
    let rules = Rules { last: Count::newest(1), ..Rules::default() };
    let candidates = [
        candidate("store", "store.dump_20269999-000000", "never", true),
        candidate("store", "future", "2026-06-01T00:00:01Z", true),
        candidate("store", "now", "2026-06-01T00:00:00Z", true),
        candidate("store", "before", "2026-05-01T00:00:00Z", true),
        candidate("store", "a year that no name can tell", "+12026-05-01T00:00:00Z", true),
    ];
    let decisions = decide(&policy(rules), at("2026-06-01T00:00:00Z"), &candidates);
    assert_eq!(decisions[0], Decision::LeaveAlone(Oddity::NoTime));
    assert_eq!(decisions[1], Decision::LeaveAlone(Oddity::InTheFuture));
    assert_eq!(decisions[2].to_string(), "the newest verified backup, last 1 of 1");
    assert_eq!(decisions[3], Decision::Remove);
    assert_eq!(decisions[4], Decision::LeaveAlone(Oddity::NoTime));
}

/// Each rule in the words of its documentation, without a thought for time.
mod naive {
    use super::*;

    /// Whether some rule keeps `one` of `all`, which are of one source, and all verified or looked at as if they were.
    pub(super) fn is_kept(rules: &Rules, all: &[&Candidate], one: &Candidate) -> bool {
        let key = |c: &Candidate| (c.time, c.name.clone());
        let zone = rules.time_zone;
        let local = |c: &Candidate| c.time.expect("they have one").with_timezone(&zone);
        let is_within = |count: Option<Count>, newer: usize| match count {
            None => false,
            Some(Count::Unlimited) => true,
            Some(Count::Newest(most)) => newer < most.get() as usize,
        };
        let newer =
            |is_meant: &dyn Fn(&Candidate) -> bool| all.iter().filter(|c| key(c) > key(one) && is_meant(c)).count();
        let is_oldest = all.iter().all(|c| key(c) >= key(one));
        let of_period = |count: Option<Count>, period: &dyn Fn(&Candidate) -> String| {
            let mut newer: Vec<_> = all.iter().filter(|c| key(c) > key(one)).map(|c| period(c)).collect();
            let is_newest_of_its_own = !newer.contains(&period(one));
            newer.sort();
            newer.dedup();
            (is_newest_of_its_own || is_oldest) && is_within(count, newer.len())
        };
        let newest = all.iter().filter_map(|c| c.time).max().expect("there is one");
        is_within(rules.last, newer(&|_| true))
            || of_period(rules.hourly, &|c| local(c).format("%Y-%m-%dT%H%z").to_string())
            || of_period(rules.daily, &|c| local(c).format("%Y-%m-%d").to_string())
            || of_period(rules.weekly, &|c| local(c).format("%G-%V").to_string())
            || of_period(rules.monthly, &|c| local(c).format("%Y-%m").to_string())
            || of_period(rules.yearly, &|c| local(c).format("%Y").to_string())
            || rules.within.is_some_and(|span| one.time.expect("it has one") >= newest - hours_of(span))
            || rules.weekly_backup_day.is_some_and(|documented| {
                let is_of_day = |c: &Candidate| local(c).weekday() == documented.day;
                if is_of_day(one) {
                    is_within(documented.weekly, newer(&is_of_day))
                } else {
                    is_within(documented.daily, newer(&|c| !is_of_day(c)))
                }
            })
    }

    /// The generated ones are of hours alone.
    fn hours_of(span: Span) -> TimeDelta {
        TimeDelta::hours(span.to_string().strip_suffix('h').expect("hours").parse().expect("a number"))
    }

    /// The indexes of what is removed.
    pub(super) fn removed(rules: &Rules, now: DateTime<Utc>, candidates: &[Candidate]) -> Vec<usize> {
        let mut removed = Vec::new();
        for (index, one) in candidates.iter().enumerate() {
            let Some(time) = one.time.filter(|time| *time <= now) else { continue };
            let of_source: Vec<_> = candidates
                .iter()
                .filter(|c| c.source == one.source && c.time.is_some_and(|time| time <= now))
                .collect();
            let verified: Vec<_> = of_source.iter().filter(|c| c.verified).copied().collect();
            let newest = verified.iter().map(|c| (c.time, &c.name)).max();
            let is_kept = if one.verified {
                newest == Some((one.time, &one.name)) || is_kept(rules, &verified, one)
            } else {
                newest.is_none_or(|newest| (Some(time), &one.name) > newest) || is_kept(rules, &of_source, one)
            };
            if !is_kept {
                removed.push(index);
            }
        }
        removed
    }
}

fn any_count() -> impl Strategy<Value = Option<Count>> {
    prop_oneof![3 => Just(None), 3 => (1u32..6).prop_map(Count::newest), 1 => Just(Some(Count::Unlimited))]
}

fn any_zone() -> impl Strategy<Value = Tz> {
    use chrono_tz::{America::St_Johns, Australia::Lord_Howe, Europe::Berlin, Pacific::Apia, UTC};
    prop_oneof![Just(UTC), Just(Berlin), Just(Lord_Howe), Just(Apia), Just(St_Johns)]
}

fn any_weekday() -> impl Strategy<Value = Weekday> {
    (0u8..7).prop_map(|day| Weekday::try_from(day).expect("one of seven"))
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let counts = proptest::array::uniform6(any_count());
    let within =
        proptest::option::weighted(0.2, (1u32..2000).prop_map(|hours| format!("{hours}h").parse().expect("a span")));
    let documented = proptest::option::weighted(0.4, (any_weekday(), any_count(), any_count()));
    (counts, within, documented, any_zone())
        .prop_map(|([last, hourly, daily, weekly, monthly, yearly], within, documented, time_zone)| Rules {
            last,
            hourly,
            daily,
            weekly,
            monthly,
            yearly,
            within,
            weekly_backup_day: documented.map(|(day, weekly, daily)| WeeklyBackupDay { day, weekly, daily }),
            time_zone,
        })
        .prop_filter("a policy keeps something", |rules| Policy::try_from(rules.clone()).is_ok())
}

/// Times that crowd where a calendar is odd: ends of years, and clocks that are set.
fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    let around = |day: &str, days: i64| {
        let begin = format!("{day}T00:00:00Z").parse::<DateTime<Utc>>().expect("a time");
        (0..days * 48).prop_map(move |half_hours| begin + TimeDelta::minutes(30 * half_hours))
    };
    prop_oneof![
        around("2023-01-01", 1460),
        around("2024-12-25", 14),
        around("2025-12-25", 14),
        around("2026-12-25", 14),
        around("2026-03-28", 3),
        around("2026-10-24", 3),
        // Newfoundland set its clock back at 00:01, and Samoa left out a day.
        around("2010-11-06", 3),
        around("2011-12-29", 3),
    ]
}

fn any_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (any_time(), 0u8..2, proptest::bool::weighted(0.7), proptest::bool::weighted(0.95));
    proptest::collection::vec(one, 0..60).prop_map(|all| {
        let candidate =
            |(number, (time, source, verified, has_time)): (usize, (DateTime<Utc>, u8, bool, bool))| Candidate {
                source: source.to_string(),
                name: format!("{number:03}"),
                time: has_time.then_some(time),
                verified,
            };
        all.into_iter().enumerate().map(candidate).collect()
    })
}

fn removed(rules: &Rules, now: DateTime<Utc>, candidates: &[Candidate]) -> Vec<usize> {
    let decisions = decide(&policy(rules.clone()), now, candidates);
    (0..candidates.len()).filter(|index| decisions[*index].is_removal()).collect()
}

fn now() -> DateTime<Utc> {
    at("2026-12-31T12:00:00Z")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_removed_is_what_no_rule_keeps(rules in any_rules(), candidates in any_candidates()) {
        prop_assert_eq!(removed(&rules, now(), &candidates), naive::removed(&rules, now(), &candidates));
    }

    #[test]
    fn the_order_of_the_input_is_irrelevant(rules in any_rules(), candidates in any_candidates(), seed: u64) {
        let policy = policy(rules);
        let decisions = decide(&policy, now(), &candidates);
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by_key(|index| (*index as u64 + 1).wrapping_mul(seed | 1));
        let shuffled: Vec<_> = order.iter().map(|index| candidates[*index].clone()).collect();
        let expected: Vec<_> = order.iter().map(|index| decisions[*index].clone()).collect();
        prop_assert_eq!(decide(&policy, now(), &shuffled), expected);
    }

    #[test]
    fn a_second_run_removes_nothing_more(rules in any_rules(), candidates in any_candidates()) {
        let gone = removed(&rules, now(), &candidates);
        let mut rest = candidates;
        let mut index = 0;
        rest.retain(|_| { index += 1; !gone.contains(&(index - 1)) });
        prop_assert_eq!(removed(&rules, now(), &rest), Vec::<usize>::new());
    }

    #[test]
    fn a_larger_number_never_removes_more(rules in any_rules(), candidates in any_candidates(), which in 0..8) {
        let larger = |count: Option<Count>| match count {
            None => Count::newest(1),
            Some(Count::Newest(number)) => Count::newest(number.get() + 1),
            Some(Count::Unlimited) => Some(Count::Unlimited),
        };
        let mut more = rules.clone();
        match which {
            0 => more.last = larger(more.last),
            1 => more.hourly = larger(more.hourly),
            2 => more.daily = larger(more.daily),
            3 => more.weekly = larger(more.weekly),
            4 => more.monthly = larger(more.monthly),
            5 => more.yearly = larger(more.yearly),
            6 => if let Some(of_day) = &mut more.weekly_backup_day { of_day.weekly = larger(of_day.weekly) },
            _ => if let Some(of_day) = &mut more.weekly_backup_day { of_day.daily = larger(of_day.daily) },
        }
        let before = removed(&rules, now(), &candidates);
        prop_assert!(removed(&more, now(), &candidates).iter().all(|index| before.contains(index)));
    }

    #[test]
    fn the_newest_verified_backup_of_a_source_stays(rules in any_rules(), candidates in any_candidates()) {
        let decisions = decide(&policy(rules), now(), &candidates);
        for source in ["0", "1"] {
            let of_source = candidates.iter().enumerate().filter(|(_, c)| c.source == source && c.verified);
            let newest = of_source.filter(|(_, c)| c.time.is_some_and(|time| time <= now())).max_by_key(|(_, c)| (c.time, &c.name));
            if let Some((index, _)) = newest {
                let Decision::Keep(reasons) = &decisions[index] else { panic!("{:?}", decisions[index]) };
                prop_assert!(matches!(reasons[0], Reason::NewestVerified | Reason::OnlyVerified));
            }
        }
    }

    #[test]
    fn what_is_not_verified_changes_nothing_for_what_is(rules in any_rules(), candidates in any_candidates()) {
        let policy = policy(rules);
        let verified: Vec<_> = candidates.iter().filter(|c| c.verified).cloned().collect();
        let alone = decide(&policy, now(), &verified);
        let together = decide(&policy, now(), &candidates);
        let of_verified: Vec<_> = candidates.iter().zip(together).filter(|(c, _)| c.verified).map(|(_, d)| d).collect();
        prop_assert_eq!(of_verified, alone);
    }

    #[test]
    fn places_are_counted_from_one_without_a_gap(rules in any_rules(), candidates in any_candidates()) {
        let verified: Vec<_> = candidates.into_iter().filter(|c| c.verified && c.source == "0").collect();
        let mut places: Vec<(Rule, u32)> = Vec::new();
        for decision in decide(&policy(rules), now(), &verified) {
            let Decision::Keep(reasons) = decision else { continue };
            places.extend(reasons.iter().filter_map(|reason| match reason {
                Reason::Counted { rule, place, .. } => Some((*rule, *place)),
                _ => None,
            }));
        }
        places.sort_unstable();
        for of_rule in places.chunk_by(|a, b| a.0 == b.0) {
            prop_assert!(of_rule.iter().zip(1..).all(|((_, place), expected)| *place == expected), "{of_rule:?}");
        }
    }
}

#[test]
fn midnight_of_a_new_year_is_in_the_new_one_where_the_clock_says_so() {
    let rules = Rules { yearly: Count::newest(1), time_zone: chrono_tz::Pacific::Auckland, ..Rules::default() };
    // 11:00 UTC is 00:00 in Auckland.
    let said = said(&rules, &["2025-12-31T11:00:00Z", "2025-12-31T10:59:59Z"]);
    assert_eq!(said, ["the newest verified backup, yearly 1 of 1", NO_RULE]);
    let first = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date");
    let midnight = at("2025-12-31T11:00:00Z").with_timezone(&chrono_tz::Pacific::Auckland);
    assert_eq!((midnight.date_naive(), midnight.hour()), (first, 0));
}
