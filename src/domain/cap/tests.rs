use proptest::prelude::*;

use super::*;
use crate::clock::SECOND;

const NOW: Millis = 1_735_749_045_000;

fn messages(hour: u64, day: u64) -> Cap {
    let most = |messages| Most { messages: Some(messages), money: None };
    Cap { hour: most(hour), day: most(day) }
}

fn one() -> Amount {
    Amount { messages: 1, money: Micros(0) }
}

fn costing(money: u64) -> Amount {
    Amount { messages: 1, money: Micros(money) }
}

/// Leases until there is no room, and says what was granted: to all, to known phones.
fn drain(spent: &mut Spent, cap: &Cap, now: Millis) -> (u64, u64) {
    let (mut all, mut known) = (0, 0);
    while let Some(lease) = spent.lease(cap, one(), now).lease {
        match lease.whom {
            Whom::All => all += lease.left.messages,
            Whom::Known => known += lease.left.messages,
        }
    }
    (all, known)
}

#[test]
fn up_to_the_cap_all_get_messages_and_a_fifth_more_those_who_are_known() {
    for (most, reserve) in [(1000, 200), (150, 30), (7, 1), (1, 0)] {
        let mut spent = Spent::default();
        assert_eq!(drain(&mut spent, &messages(most, 10 * most), NOW), (most, reserve), "{most}");
        assert_eq!(drain(&mut spent, &messages(most, 10 * most), NOW), (0, 0));
    }
}

#[test]
fn a_window_is_free_again_when_its_cell_is_over_and_not_before() {
    let (cap, mut spent) = (messages(10, 1000), Spent::default());
    drain(&mut spent, &cap, NOW);
    let refused = spent.lease(&cap, one(), NOW);
    assert_eq!(refused.lease, None);
    // Spent by NOW + LEASE at the latest, and rounded up to a cell.
    assert!(refused.all_at > NOW + HOUR + LEASE, "{}", refused.all_at - NOW);
    assert!(refused.all_at <= NOW + HOUR + LEASE + MINUTE, "{}", refused.all_at - NOW);
    assert_eq!(spent.lease(&cap, one(), refused.all_at - 1).lease, None);
    let free = spent.lease(&cap, one(), refused.all_at).lease.unwrap();
    assert_eq!(free.whom, Whom::All);
}

#[test]
fn the_day_holds_where_the_hour_would_not() {
    let (cap, mut spent) = (messages(10, 25), Spent::default());
    let (mut now, mut gone) = (NOW, (0, 0));
    for _ in 0..11 {
        let (all, known) = drain(&mut spent, &cap, now);
        gone = (gone.0 + all, gone.1 + known);
        now += 2 * HOUR;
    }
    assert_eq!(gone, (21, 9), "twice 10 and 2, then what the day leaves: 1 of 25, 30 with known");
}

#[test]
fn money_is_counted_to_the_last_millionth() {
    let day = Most { messages: None, money: Some(Micros(1_000_000)) };
    let (cap, mut spent) = (Cap { day, ..Cap::default() }, Spent::default());
    let (mut gone, mut known) = (0, 0);
    let mut lease = None::<Lease>;
    loop {
        let left = lease.and_then(|it| it.left.without(costing(45_000)));
        if let (Some(left), Some(held)) = (left, lease) {
            lease = Some(Lease { left, ..held });
            *(if held.whom == Whom::All { &mut gone } else { &mut known }) += 45_000_u64;
            continue;
        }
        if let Some(held) = lease {
            spent.give_back(held.left, held.until);
        }
        lease = spent.lease(&cap, costing(45_000), NOW).lease;
        if lease.is_none() {
            break;
        }
    }
    assert_eq!((gone, gone + known), (22 * 45_000, 26 * 45_000), "of 1 and of 1.2");
    let dear = spent.lease(&cap, costing(2_000_000), NOW);
    assert_eq!((dear.lease, dear.all_at), (None, NOW + DAY), "it never fits");
}

#[test]
fn what_is_left_of_a_lease_can_be_given_back_once() {
    let (cap, mut spent) = (messages(1000, 1000), Spent::default());
    let lease = spent.lease(&cap, one(), NOW).lease.unwrap();
    assert_eq!(lease.left.messages, 10);
    spent.give_back(Amount { messages: 4, ..one() }, lease.until);
    assert_eq!(spent.used(Span::Hour, NOW).messages, 6);
    spent.give_back(Amount { messages: 40, ..one() }, lease.until);
    assert_eq!(spent.used(Span::Day, NOW).messages, 0, "never below nothing");
    spent.add(Amount { messages: 3, ..one() }, NOW);
    assert_eq!(spent.used(Span::Hour, NOW).messages, 3);
}

#[test]
fn each_line_is_told_once_per_window() {
    let (cap, mut spent) = (messages(100, 100_000), Spent::default());
    let mut told = Vec::new();
    for _ in 0..150 {
        told.extend(spent.lease(&cap, one(), NOW).passed);
    }
    let lines = [Line::Warn, Line::Known, Line::Nobody].map(|line| (Span::Hour, line));
    assert_eq!(told, lines);
    assert_eq!(spent.share(&cap, Span::Hour, NOW), Some(1200));
    let later = NOW + 70 * MINUTE;
    assert_eq!(spent.lease(&cap, one(), later).passed, []);
    assert_eq!(drain(&mut spent, &cap, later), (99, 20));
    let again = spent.lease(&cap, one(), later + SECOND).passed;
    assert_eq!(again, [], "the draining leases told it");
}

#[test]
fn the_record_stays_small() {
    let (cap, mut spent) = (messages(1_000_000, 10_000_000), Spent::default());
    for minute in 0..3 * 24 * 60 {
        spent.lease(&cap, one(), NOW + minute * MINUTE);
    }
    assert!(spent.hour.len() <= 63 && spent.day.len() <= 50, "{spent:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// However leases are taken, spent, given back and lost: in no hour and no day more goes out
    /// than the cap allows.
    #[test]
    fn no_window_ever_holds_more_than_its_cap(
        hour in 1_u64..40, day in 1_u64..120,
        steps in prop::collection::vec((0_i64..400_000, 0_u8..10), 1..200),
    ) {
        let cap = messages(hour, day);
        let (mut spent, mut now, mut lease) = (Spent::default(), NOW, None::<Lease>);
        let mut sent: Vec<(Millis, Whom)> = Vec::new();
        for (pause, what) in steps {
            now += pause;
            if what == 0 {
                lease = None; // A crash.
            }
            if lease.is_none_or(|it| it.until <= now || it.left.messages == 0) {
                if let Some(old) = lease {
                    spent.give_back(old.left, old.until);
                }
                lease = spent.lease(&cap, one(), now).lease;
            }
            if let Some(held) = &mut lease {
                held.left.messages -= 1;
                sent.push((now, held.whom));
            }
        }
        for (at, _) in &sent {
            for (length, most) in [(HOUR, hour), (DAY, day)] {
                let within = |it: &&(Millis, Whom)| it.0 > at - length && it.0 <= *at;
                let all = sent.iter().filter(within).count() as u64;
                prop_assert!(all <= most * 120 / 100, "{} of {}", all, most);
            }
        }
        // Whoever is not known is within the cap itself.
        for (at, _) in sent.iter().filter(|it| it.1 == Whom::All) {
            for (length, most) in [(HOUR, hour), (DAY, day)] {
                let before = sent.iter().filter(|it| it.0 > at - length && it.0 <= *at);
                let open = before.filter(|it| it.1 == Whom::All).count() as u64;
                prop_assert!(open <= most);
            }
        }
    }
}
