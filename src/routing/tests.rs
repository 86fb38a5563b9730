use std::sync::Arc;

use super::*;
use crate::chance::SeededChance;
use crate::clock::SECOND;
use crate::providers::simulated::{Simulated, Simulator};

const HOME: &str = "+8613800138000";

fn providers(names: &[&str], clock: &Clock) -> Providers {
    let simulator = Arc::new(Simulator::default());
    let make = |name: &&str| -> Arc<dyn Provider> {
        Arc::new(Simulated::new((*name).to_owned(), Arc::clone(&simulator), clock.clone()))
    };
    names.iter().map(make).collect()
}

fn router(names: &[&str], routes: Vec<Route>) -> (Router, Clock) {
    let clock = Clock::manual(0);
    (Router::new(providers(names, &clock), routes, clock.clone()), clock)
}

fn phone(e164: &str) -> Phone {
    Phone::from_e164(e164).unwrap()
}

fn route(countries: &[&str], prefixes: &[&str], providers: &[usize]) -> Route {
    Route {
        countries: countries.iter().map(|text| text.parse().unwrap()).collect(),
        prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        providers: providers.to_vec(),
        weights: vec![],
    }
}

fn line(router: &Router, e164: &str) -> Line {
    router.line(&phone(e164), &[], &mut SeededChance(1))
}

#[test]
fn the_longest_prefix_wins_then_a_country_then_who_comes_first() {
    let routes = vec![
        route(&["CN"], &[], &[0, 1]),
        route(&["CN"], &["+86139"], &[1]),
        route(&["CN"], &["+8613900"], &[2, 0]),
        route(&[], &["+44"], &[2]),
        route(&["HK", "MO"], &[], &[2, 1]),
        route(&["HK"], &[], &[0]),
    ];
    let (router, _) = router(&["a", "b", "c"], routes);
    for (number, order) in [
        (HOME, vec![0, 1]),
        ("+8613911112222", vec![1]),
        ("+8613900112222", vec![2, 0]),
        ("+447700900123", vec![2]),
        ("+85261234567", vec![2, 1]),
        ("+15558675310", vec![0, 1, 2]),
    ] {
        assert_eq!(line(&router, number).order, order, "{number}");
    }
    assert_eq!(line(&router, "+85261234567").country, "HK".parse().ok());
}

#[test]
fn weights_decide_how_often_each_is_the_first() {
    let weighted = Route { weights: vec![7, 2, 1, 0], ..route(&[], &[], &[0, 1, 2, 3]) };
    let (router, _) = router(&["a", "b", "c", "d"], vec![weighted]);
    let (mut first, mut chance) = ([0; 4], SeededChance(7));
    for _ in 0..10_000 {
        let mut line = router.line(&phone(HOME), &[], &mut chance);
        first[line.first()] += 1;
        line.order.sort_unstable();
        assert_eq!(line.order, [0, 1, 2, 3], "all are on it, once");
    }
    assert!((6_800..7_200).contains(&first[0]), "{first:?}");
    assert!((1_850..2_150).contains(&first[1]), "{first:?}");
    assert!((900..1_100).contains(&first[2]), "{first:?}");
    assert_eq!(first[3], 0, "a weight of 0 is for failover only");
}

#[test]
fn a_resend_begins_with_a_provider_that_was_not_used() {
    let (router, _) = router(&["a", "b", "c"], vec![]);
    let again = |used: &[&str]| {
        let used: Vec<_> = used.iter().map(|name| (*name).to_owned()).collect();
        router.line(&phone(HOME), &used, &mut SeededChance(1))
    };
    assert_eq!(again(&["a"]).order, [1, 2, 0]);
    assert_eq!(again(&["a"]).note.unwrap(), "a carried an earlier message of this verification");
    assert_eq!(again(&["a", "b"]).order, [2, 0, 1]);
    assert_eq!(again(&["a", "b", "c"]).order, [0, 1, 2], "all were: as usual");
    assert_eq!(again(&["b"]).note, None);
}

#[test]
fn who_is_left_out_comes_last_for_this_country_only_and_is_tried_again() {
    let (router, clock) = router(&["a", "b"], vec![]);
    let home = line(&router, HOME);
    for _ in 0..3 {
        assert_eq!(router.admit(0, &home, false), Admission::Go);
        router.learn(0, &home, Class::NotSent);
    }
    let without = line(&router, HOME);
    assert_eq!(without.order, [1, 0]);
    let told = "a is left out: 3 calls in a row were not answered";
    assert_eq!(without.note.as_deref(), Some(told));
    let Admission::Held(held) = router.admit(0, &without, false) else { panic!() };
    assert_eq!((held.class, held.vendor_code.as_str()), (Class::NotSent, LEFT_OUT));
    assert!(is_held(&held.vendor_code) && held.note.is_some());
    assert_eq!(line(&router, "+85261234567").order, [0, 1], "elsewhere nothing is known");
    assert!(router.is_left_out(0) && !router.is_left_out(1));

    assert!(router.to_be_looked_at().is_empty());
    clock.advance(10 * SECOND);
    assert_eq!(router.to_be_looked_at(), [0]);
    router.looked_at(0, true);
    assert_eq!(line(&router, HOME).order, [0, 1], "one message tries it");
    assert_eq!(router.admit(0, &home, false), Admission::Go);
    assert_eq!(line(&router, HOME).order, [1, 0], "the others wait for its end");
    router.learn(0, &home, Class::Accepted);
    assert_eq!(line(&router, HOME).order, [0, 1]);
    assert!(!router.is_left_out(0));
}

#[test]
fn where_there_is_nobody_else_a_provider_is_always_asked() {
    let (alone, _) = router(&["a"], vec![]);
    let only = line(&alone, HOME);
    for _ in 0..50 {
        assert_eq!(alone.admit(0, &only, false), Admission::Go);
        alone.learn(0, &only, Class::NotSent);
    }
    let (two, clock) = router(&["a", "b"], vec![]);
    let both = line(&two, HOME);
    for place in [0, 1] {
        for _ in 0..3 {
            two.learn(place, &both, Class::NotSent);
        }
    }
    // Both are dead: one call a second to each, so that whoever comes back is found.
    let mut gone = 0;
    for _ in 0..100 {
        gone += usize::from(two.admit(0, &both, false) == Admission::Go);
        clock.advance(SECOND / 10);
    }
    assert_eq!(gone, 10);
}

#[test]
fn retries_of_a_failing_provider_are_bounded_and_first_calls_are_not() {
    let (router, _) = router(&["a"], vec![]);
    let only = line(&router, HOME);
    for _ in 0..5 {
        router.learn(0, &only, Class::ProviderError);
    }
    let retries = (0..1000).filter(|_| router.admit(0, &only, true) == Admission::Go).count();
    assert!((20..=30).contains(&retries), "{retries}");
    assert_eq!(router.admit(0, &only, false), Admission::Go);
    let Admission::Held(held) = router.admit(0, &only, true) else { panic!() };
    assert_eq!(held.vendor_code, RETRIES_SPENT);
}

#[test]
fn adaptive_choice_keeps_to_the_route_its_backups_and_the_breaker() {
    let weighted = Route { weights: vec![5, 1, 0], ..route(&[], &[], &[0, 1, 2]) };
    let (router, _) = router(&["a", "b", "c", "d"], vec![weighted]);
    let router = router.with_adaptive(Micros(1_000_000));
    let home = phone(HOME).country();
    for _ in 0..60 {
        router.learn_entered(0, home, false);
        router.learn_entered(1, home, true);
        router.learn_entered(2, home, true);
        router.learn_entered(3, home, true);
    }
    let chosen = line(&router, HOME);
    assert_eq!(chosen.order, [1, 0, 2], "a backup stays one, and who is not on the route is not");
    let told = chosen.note.clone().unwrap();
    assert_eq!(told, "b: 100 % entered of the last 46; a: 0 % of the last 46");
    // A resend begins with somebody else, and a provider that is left out is left out.
    let used = router.line(&phone(HOME), &["b".to_owned()], &mut SeededChance(1));
    assert_eq!(used.order, [0, 2, 1]);
    assert!(used.note.unwrap().ends_with("; b carried an earlier message of this verification"));
    for _ in 0..3 {
        router.learn(1, &chosen, Class::UnknownOutcome);
    }
    let left_out = line(&router, HOME);
    assert_eq!(left_out.order, [0, 2, 1]);
    assert!(left_out.note.unwrap().contains("; b is left out: 3 calls in a row"));
}
