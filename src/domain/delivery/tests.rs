use super::*;
use crate::chance::{Chance, SeededChance};
use crate::clock::SECOND;
use crate::domain::outcome::{About, Receipt};
use crate::domain::phone::Phone;
use crate::domain::policy::{ASKED_AFTER, ENTERED_WITHIN, UNATTENDED};

const A: Carrier<'static> = Carrier { name: "a", deduplicates: false, ..Y };
const B: Carrier<'static> = Carrier { name: "b", deduplicates: false, ..Y };
const Y: Carrier<'static> =
    Carrier { name: "y", deduplicates: true, rank: Some(0), doubtful: false, cost: Micros(45_000) };

fn new() -> Delivery {
    Delivery {
        verification: VerificationId::with(1, 0, [1; 16]),
        tenant: "shop".into(),
        fingerprint: "00".into(),
        masked: "+86138****8000".into(),
        created_at: 0,
        deadline: 90 * SECOND,
        stage: Stage::Pending(Pending::claimed_at(0, "letter".into(), 0)),
        tries: vec![],
        note: None,
        set_aside: Micros(0),
        counted: None,
    }
}

fn outcome(class: Class) -> Outcome {
    Outcome::of(class, "x")
}

fn settle(delivery: &mut Delivery, number: u32, class: Class, carriers: &[Carrier<'_>]) -> Settled {
    delivery.settle(number, &outcome(class), carriers, SECOND, 1)
}

fn turn(settled: Settled) -> usize {
    match settled {
        Settled::GoOn(claim) => claim.turn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_accepted_message_is_settled_and_its_letter_is_gone() {
    let mut delivery = new();
    let accepted = Outcome::accepted("m1");
    let settled = delivery.settle(1, &accepted, &[A], SECOND, 1);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
    assert_eq!(delivery.status(), "accepted");
    assert!(!serde_json::to_string(&delivery).unwrap().contains("letter"));
}

#[test]
fn a_claim_holds_for_a_lease_and_an_older_one_is_fenced() {
    let mut delivery = new();
    assert_eq!(delivery.claim(&[A, B], LEASE - 1), Claimed::NotDue);
    let Claimed::Yours(claim) = delivery.claim(&[A, B], LEASE) else { panic!() };
    assert_eq!((claim.number, claim.letter.as_str()), (2, "letter"));
    let late = delivery.settle(1, &Outcome::accepted("old"), &[A, B], LEASE + 1, 1);
    assert_eq!(late, Settled::TooLate);
    assert_eq!(delivery.status(), "pending");
}

#[test]
fn crashes_send_at_most_twice() {
    let mut delivery = new();
    assert!(matches!(delivery.claim(&[A], LEASE), Claimed::Yours(_)));
    assert_eq!(delivery.claim(&[A], 2 * LEASE), Claimed::Ended);
    assert!(matches!(delivery.stage, Stage::Failed { class: Class::UnknownOutcome, .. }));
}

#[test]
fn crashes_before_a_provider_that_deduplicates_are_harmless() {
    let mut delivery = new();
    for crash in 1..=5 {
        assert!(matches!(delivery.claim(&[Y], crash * LEASE), Claimed::Yours(_)), "{crash}");
    }
    assert_eq!(delivery.claim(&[Y], 90 * SECOND), Claimed::Ended);
    assert_eq!(delivery.status(), "expired");
}

#[test]
fn nothing_is_called_after_the_deadline() {
    let mut delivery = new();
    assert_eq!(delivery.claim(&[A], 90 * SECOND), Claimed::Ended);
    assert_eq!(delivery.status(), "expired");
    let mut late = new();
    let Claimed::Yours(claim) = late.claim(&[A], 89 * SECOND) else { panic!() };
    assert_eq!(claim.call_before, 90 * SECOND);
    let early = new().first_claim().unwrap();
    assert_eq!(early.call_before, LEASE - CALL_MAX, "a call must end within its lease");
}

#[test]
fn a_dead_provider_hands_over_at_once_and_comes_round_again_after_a_pause() {
    let mut delivery = new();
    assert_eq!(turn(settle(&mut delivery, 1, Class::NotSent, &[A, B])), 1);
    assert_eq!(settle(&mut delivery, 2, Class::NotSent, &[A, B]), Settled::Waits);
    let due = delivery.due_at().unwrap();
    assert!((SECOND + 250..=SECOND + 4000).contains(&due), "{due}");
    let Claimed::Yours(claim) = delivery.claim(&[A, B], due) else { panic!() };
    assert_eq!(claim.turn, 0);
}

#[test]
fn a_busy_provider_is_tried_twice_before_the_next() {
    let mut delivery = new();
    assert_eq!(settle(&mut delivery, 1, Class::RateLimitedAccount, &[A, B]), Settled::Waits);
    let due = delivery.due_at().unwrap();
    let Claimed::Yours(claim) = delivery.claim(&[A, B], due) else { panic!() };
    assert_eq!(claim.turn, 0);
    let settled = delivery.settle(claim.number, &outcome(Class::ProviderError), &[A, B], due, 1);
    assert_eq!(turn(settled), 1);
}

#[test]
fn a_refused_number_is_final_and_never_fails_over() {
    for class in [Class::RateLimitedNumber, Class::InvalidNumber, Class::BlockedNumber] {
        let mut delivery = new();
        let settled = settle(&mut delivery, 1, class, &[A, B]);
        assert_eq!(settled, Settled::Ended { surely_not_sent: true }, "{class}");
    }
}

#[test]
fn a_refused_account_is_the_next_providers_turn_and_final_when_all_refuse() {
    let mut delivery = new();
    assert_eq!(turn(settle(&mut delivery, 1, Class::AuthFailed, &[A, B])), 1);
    let settled = settle(&mut delivery, 2, Class::BalanceExhausted, &[A, B]);
    assert_eq!(settled, Settled::Ended { surely_not_sent: true });
    assert_eq!(delivery.status(), "failed");
}

#[test]
fn an_unknown_outcome_waits_and_then_goes_once_through_another_provider() {
    let mut delivery = new();
    assert_eq!(settle(&mut delivery, 1, Class::UnknownOutcome, &[A, B]), Settled::Waits);
    let due = UNKNOWN_WAIT;
    assert_eq!(delivery.due_at(), Some(due));
    let Claimed::Yours(claim) = delivery.claim(&[A, B], due) else { panic!() };
    assert_eq!((claim.turn, claim.maybe_sent_by), (1, None), "who called has looked it up");
    let settled = delivery.settle(claim.number, &outcome(Class::UnknownOutcome), &[A, B], due, 1);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
}

#[test]
fn an_unknown_outcome_is_waited_for_until_six_seconds_after_the_call_began() {
    let doubtful = Carrier { doubtful: true, ..A };
    for (carriers, took, due) in [
        ([A, B], 20, UNKNOWN_WAIT),
        ([A, B], 2 * SECOND, UNKNOWN_WAIT),
        ([A, B], CALL_MAX, UNKNOWN_WAIT),
        ([A, B], CALL_MAX + 400, CALL_MAX + 900),
        ([doubtful, B], 20, 520),
        ([doubtful, B], CALL_MAX, UNKNOWN_WAIT),
        ([Y, B], 20, 520),
        ([Y, B], 2 * SECOND, UNKNOWN_WAIT),
        ([Y, B], CALL_MAX, UNKNOWN_WAIT),
    ] {
        let mut delivery = new();
        let settled = delivery.settle(1, &outcome(Class::UnknownOutcome), &carriers, took, 1);
        assert_eq!((settled, delivery.due_at()), (Settled::Waits, Some(due)), "{took}");
        let Claimed::Yours(claim) = delivery.claim(&carriers, due) else { panic!() };
        let again = carriers[0].deduplicates && took < UNKNOWN_QUICK;
        assert_eq!(claim.turn, usize::from(!again), "{took}");
    }
}

#[test]
fn a_wait_that_nobody_attended_is_looked_up_before_the_next_call() {
    for (late, asked) in [(0, false), (UNATTENDED, false), (UNATTENDED + 1, true)] {
        let mut delivery = new();
        settle(&mut delivery, 1, Class::UnknownOutcome, &[A, B]);
        let Claimed::Yours(claim) = delivery.claim(&[A, B], UNKNOWN_WAIT + late) else { panic!() };
        assert_eq!((claim.turn, claim.maybe_sent_by), (1, asked.then(|| "a".to_owned())), "{late}");
    }
    let mut crashed = new();
    let Claimed::Yours(claim) = crashed.claim(&[A, B], LEASE) else { panic!() };
    assert_eq!(claim.maybe_sent_by.as_deref(), Some("a"));
    assert!(!crashed.taken("b", "m1", Some(claim.number), LEASE), "another's word");
    assert!(!crashed.taken("a", "m1", None, LEASE), "somebody may be calling by now");
    assert!(crashed.taken("a", "m1", Some(claim.number), LEASE));
    assert_eq!((crashed.status(), crashed.due_at()), ("accepted", None));
    assert!(!crashed.taken("a", "m2", None, LEASE), "once");
    let late = crashed.settle(claim.number, &Outcome::accepted("m2"), &[A, B], LEASE, 1);
    assert_eq!(late, Settled::TooLate);
}

#[test]
fn an_unknown_outcome_without_another_provider_is_not_sent_again() {
    let mut delivery = new();
    let settled = settle(&mut delivery, 1, Class::UnknownOutcome, &[A]);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
}

#[test]
fn an_answer_that_broke_off_is_asked_for_again_where_that_is_safe() {
    let mut delivery = new();
    let unknown = outcome(Class::UnknownOutcome);
    assert_eq!(delivery.settle(1, &unknown, &[Y, B], 20, 1), Settled::Waits);
    let Claimed::Yours(claim) = delivery.claim(&[Y, B], 520) else { panic!() };
    assert_eq!(claim.turn, 0);
    let settled = settle(&mut delivery, claim.number, Class::Duplicate, &[Y, B]);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
    assert_eq!(delivery.status(), "accepted");
}

#[test]
fn a_refusal_after_an_unknown_outcome_leaves_it_unknown() {
    let mut delivery = new();
    settle(&mut delivery, 1, Class::UnknownOutcome, &[Y]);
    let Claimed::Yours(claim) = delivery.claim(&[Y], UNKNOWN_WAIT) else { panic!() };
    let settled = settle(&mut delivery, claim.number, Class::RateLimitedNumber, &[Y]);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
    assert!(delivery.receive("y", &receipt("m1", true), 20 * SECOND));
}

#[test]
fn a_silent_provider_that_deduplicates_is_the_next_ones_turn_and_then_its_own_again() {
    let mut delivery = new();
    settle(&mut delivery, 1, Class::UnknownOutcome, &[Y, B]);
    let due = delivery.due_at().unwrap();
    let Claimed::Yours(next) = delivery.claim(&[Y, B], due) else { panic!() };
    assert_eq!(next.turn, 1);
    let settled = delivery.settle(next.number, &outcome(Class::AuthFailed), &[Y, B], due, 1);
    assert_eq!(turn(settled), 0);
}

#[test]
fn a_receipt_may_come_before_the_answer() {
    let mut delivery = new();
    assert!(delivery.receive("a", &receipt("m1", true), SECOND), "whoever was called");
    assert_eq!(delivery.settle(1, &Outcome::accepted("m1"), &[A], SECOND, 1), Settled::TooLate);
    assert_eq!(delivery.status(), "delivered");
}

fn receipt(message_id: &str, arrived: bool) -> Receipt {
    let (about, message_id) = (About::Reference(String::new()), message_id.to_owned());
    Receipt { about, message_id, arrived, vendor_code: "DELIVRD".into() }
}

fn by_phone(message_id: &str) -> Receipt {
    let phone = Phone::from_e164("+8613800138000").unwrap();
    Receipt { about: About::Phone(phone), ..receipt(message_id, true) }
}

#[test]
fn a_receipt_that_names_a_phone_needs_the_providers_own_name_of_the_message() {
    let accepted = |message_id: &str| {
        let mut delivery = new();
        delivery.settle(1, &Outcome::accepted(message_id), &[A], SECOND, 1);
        delivery
    };
    for (known, told, taken) in
        [("m1", "m1", true), ("255", "FF", true), ("m1", "m2", false), ("", "m1", false)]
    {
        let mut delivery = accepted(known);
        assert_eq!(delivery.receive("a", &by_phone(told), SECOND), taken, "{known} {told}");
        assert!(!accepted(known).receive("b", &by_phone(told), SECOND), "another provider's");
    }
    assert!(!new().receive("a", &by_phone("m1"), SECOND), "which of its messages?");
    let mut unknown = new();
    settle(&mut unknown, 1, Class::UnknownOutcome, &[A, B]);
    assert!(!unknown.receive("a", &by_phone("m1"), SECOND));
}

#[test]
fn a_message_whose_receipt_does_not_come_is_due_again_and_in_the_end_left_alone() {
    let mut delivery = new();
    delivery.settle(1, &Outcome::accepted("m1"), &[A], SECOND, 1);
    assert_eq!(delivery.due_at(), None);
    delivery.ask_later("number".into());
    assert!(!delivery.is_owed() && delivery.claim(&[A], SECOND) == Claimed::NotDue);
    let mut asked = Vec::new();
    while let Some(due) = delivery.due_at() {
        let Claimed::Ask(ask) = delivery.claim(&[A], due) else { panic!() };
        let expected = ("a", "m1", "number", SECOND);
        assert_eq!((&*ask.provider, &*ask.message_id, &*ask.phone, ask.at), expected);
        asked.push(due - SECOND);
    }
    assert_eq!(asked, ASKED_AFTER);
    assert_eq!(
        (delivery.status(), delivery.claim(&[A], Millis::MAX)),
        ("accepted", Claimed::Ended)
    );
    assert!(!serde_json::to_string(&delivery).unwrap().contains("number"), "the number is gone");
    assert!(delivery.receive("a", &receipt("m1", true), 2 * SECOND), "a late one is welcome");
    // A receipt ends the asking; and who comes by after a long while goes on from then.
    let mut told = new();
    told.settle(1, &Outcome::accepted("m1"), &[A], SECOND, 1);
    told.ask_later("number".into());
    let late = SECOND + ASKED_AFTER[2] + 7;
    assert!(matches!(told.claim(&[A], late), Claimed::Ask(_)));
    assert_eq!(told.due_at(), Some(late + ASKED_AFTER[0]));
    assert!(told.receive("a", &receipt("m1", true), late));
    assert_eq!(told.due_at(), None);
}

#[test]
fn word_that_a_message_is_lost_ends_the_waiting() {
    let mut delivery = new();
    settle(&mut delivery, 1, Class::UnknownOutcome, &[A, B]);
    assert!(!delivery.receive("b", &receipt("m1", false), 2 * SECOND), "it was not asked");
    assert!(delivery.receive("a", &receipt("m1", false), 2 * SECOND));
    assert_eq!((delivery.status(), delivery.due_at()), ("pending", Some(2 * SECOND)));
    assert!(!delivery.receive("a", &receipt("m1", false), 2 * SECOND), "twice");
    let Claimed::Yours(claim) = delivery.claim(&[A, B], 2 * SECOND) else { panic!() };
    assert_eq!((claim.turn, claim.maybe_sent_by), (1, None));
}

#[test]
fn receipts_only_move_forward() {
    let mut delivery = new();
    delivery.settle(1, &Outcome::accepted("m1"), &[A], SECOND, 1);
    assert!(!delivery.receive("a", &receipt("m2", true), SECOND), "another message's");
    let forged = Receipt { vendor_code: "x y\n".into(), ..receipt("m1", true) };
    assert!(!delivery.receive("a", &forged, SECOND));
    assert!(delivery.receive("a", &receipt("m1", true), SECOND));
    assert!(!delivery.receive("a", &receipt("m1", true), SECOND), "twice");
    assert!(!delivery.receive("a", &receipt("m1", false), SECOND), "backwards");
    assert_eq!(delivery.status(), "delivered");
}

#[test]
fn a_message_that_counts_is_lost_once_and_only_within_its_time() {
    let country = Some(crate::domain::phone::Region::CN);
    let taken = || {
        let mut delivery = new();
        delivery.count_for(country);
        assert_eq!(delivery.counted, None, "nobody took it yet");
        delivery.settle(1, &Outcome::accepted("m1"), &[A], SECOND, 1);
        delivery
    };
    let last = SECOND + ENTERED_WITHIN;
    for (counts, arrived, at, lost) in [
        (true, false, last, true),
        (true, false, last + 1, false),
        (true, true, last, false),
        (false, false, last, false),
    ] {
        let mut delivery = taken();
        if counts {
            delivery.count_for(country);
        }
        assert!(delivery.receive("a", &receipt("m1", arrived), at));
        assert_eq!(delivery.lost(), lost.then_some(country), "{counts} {arrived} {at}");
        // It is there for whoever looks later, and on another node.
        let stored = serde_json::to_string(&delivery).unwrap();
        let read: Delivery = serde_json::from_str(&stored).unwrap();
        assert_eq!((read.lost(), read.counted), (delivery.lost(), delivery.counted), "{stored}");
        assert!(!delivery.receive("a", &receipt("m1", false), at), "once");
    }
}

#[test]
fn a_receipt_clears_up_an_unknown_outcome() {
    let mut delivery = new();
    settle(&mut delivery, 1, Class::UnknownOutcome, &[A, B]);
    assert!(delivery.receive("a", &receipt("m1", true), 2 * SECOND));
    assert_eq!(delivery.claim(&[A, B], 80 * SECOND), Claimed::Ended);
    assert_eq!(delivery.status(), "delivered");
}

#[test]
fn a_message_that_nobody_waits_for_is_stopped() {
    let mut delivery = new();
    assert_eq!(settle(&mut delivery, 1, Class::RateLimitedAccount, &[A, B]), Settled::Waits);
    let stopped = delivery.stop(Unwanted::Canceled, 2 * SECOND);
    assert_eq!(stopped, Settled::Ended { surely_not_sent: true });
    assert_eq!((delivery.status(), delivery.due_at()), ("failed", None));
    assert_eq!(delivery.claim(&[A, B], 30 * SECOND), Claimed::Ended);
    assert!(!serde_json::to_string(&delivery).unwrap().contains("letter"));
    assert!(!delivery.receive("a", &receipt("m1", true), 3 * SECOND), "nothing was sent");
    // What went out cannot be stopped, and its receipt is still welcome.
    let mut maybe = new();
    settle(&mut maybe, 1, Class::UnknownOutcome, &[A, B]);
    let stopped = maybe.stop(Unwanted::Superseded, 2 * SECOND);
    assert_eq!(stopped, Settled::Ended { surely_not_sent: false });
    assert!(maybe.receive("a", &receipt("m1", true), 3 * SECOND));
    assert_eq!(maybe.status(), "delivered");
    assert_eq!(maybe.stop(Unwanted::Superseded, 4 * SECOND), Settled::TooLate);
}

#[test]
fn a_claim_is_ones_own_until_it_is_settled_or_taken_over() {
    let mut delivery = new();
    assert!(delivery.is_claimed_under(1) && !delivery.is_claimed_under(2));
    delivery.claim(&[A, B], LEASE);
    assert!(delivery.is_claimed_under(2) && !delivery.is_claimed_under(1));
    settle(&mut delivery, 2, Class::RateLimitedAccount, &[A, B]);
    assert!(!delivery.is_claimed_under(2));
}

fn place(chance: &mut SeededChance, places: usize) -> usize {
    usize::try_from(chance.below(places as u64)).unwrap()
}

#[test]
fn every_delivery_ends_and_no_phone_gets_a_third_message() {
    // Random outcomes and crashes: whatever comes, it ends by the deadline and a lease, and the
    // calls that may have sent something are at most two, or repeats at who deduplicates.
    let classes = [
        Class::Accepted,
        Class::RateLimitedNumber,
        Class::AuthFailed,
        Class::ProviderError,
        Class::NotSent,
        Class::UnknownOutcome,
        Class::RateLimitedAccount,
    ];
    for seed in 0..20_000 {
        let mut chance = SeededChance(seed);
        let carriers: &[Carrier<'_>] =
            [&[A][..], &[A, B], &[Y, B], &[A, Y, B]][place(&mut chance, 4)];
        let mut delivery = new();
        let (mut now, mut claim, mut maybe_sent) = (0, delivery.first_claim(), Vec::new());
        while delivery.due_at().is_some() {
            assert!(now <= 90 * SECOND + LEASE, "seed {seed}: still owed at {now}");
            let Some(mine) = claim.take() else {
                now = now.max(delivery.due_at().unwrap());
                claim = match delivery.claim(carriers, now) {
                    Claimed::Yours(mine) => Some(mine),
                    Claimed::NotDue | Claimed::Ask(_) => panic!("seed {seed}: due and not due"),
                    Claimed::Ended => None,
                };
                continue;
            };
            assert!(now < 90 * SECOND, "seed {seed}: a call after the deadline");
            let class = classes[place(&mut chance, classes.len())];
            let carrier = carriers[mine.turn];
            let crashes = chance.below(6) == 0;
            if crashes || class.action() == Action::Done || class == Class::UnknownOutcome {
                maybe_sent.push(carrier.name);
            }
            if crashes {
                continue;
            }
            now += 1 + Millis::try_from(chance.below(3000)).unwrap();
            let jitter = chance.below(u64::MAX);
            if let Settled::GoOn(next) =
                delivery.settle(mine.number, &outcome(class), carriers, now, jitter)
            {
                claim = Some(next);
            }
        }
        let once = maybe_sent.iter().filter(|&&name| name != "y").count();
        let deduplicated = usize::from(maybe_sent.contains(&"y"));
        assert!(once + deduplicated <= 2, "seed {seed}: {maybe_sent:?}");
    }
}

#[test]
fn what_was_taken_costs_and_what_may_have_been() {
    let costs = |delivery: &Delivery| delivery.cost().0 / 1000;
    let cheap = Carrier { cost: Micros(45_000), ..A };
    let dear = Carrier { cost: Micros(300_000), rank: Some(1), ..B };
    let mut delivery = new();
    settle(&mut delivery, 1, Class::NotSent, &[cheap, dear]);
    assert_eq!(costs(&delivery), 0);
    settle(&mut delivery, 2, Class::UnknownOutcome, &[cheap, dear]);
    assert_eq!(costs(&delivery), 300, "it may have been sent");
    let Claimed::Yours(claim) = delivery.claim(&[cheap, dear], 60 * SECOND) else { panic!() };
    assert_eq!(claim.turn, 0);
    delivery.settle(claim.number, &Outcome::accepted("m"), &[cheap, dear], 60 * SECOND, 1);
    assert_eq!(costs(&delivery), 345);
    // A crash may have sent it, too; who deduplicates bills once.
    let mut delivery = new();
    let once = Carrier { cost: Micros(45_000), ..Y };
    let Claimed::Yours(claim) = delivery.claim(&[once], LEASE) else { panic!() };
    assert_eq!(costs(&delivery), 45);
    delivery.settle(claim.number, &Outcome::accepted("m"), &[once], LEASE + 1, 1);
    assert_eq!(costs(&delivery), 45);
    let stored = serde_json::to_string(&delivery).unwrap();
    assert!(stored.contains("\"cost\":45000"), "{stored}");
    assert!(!serde_json::to_string(&new()).unwrap().contains("set_aside"), "nothing costs nothing");
}
