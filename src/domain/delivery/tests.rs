use super::*;
use crate::chance::{Chance, SeededChance};
use crate::clock::SECOND;

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
    let due = SECOND + UNKNOWN_WAIT;
    assert_eq!(delivery.due_at(), Some(due));
    let Claimed::Yours(claim) = delivery.claim(&[A, B], due) else { panic!() };
    assert_eq!(claim.turn, 1);
    let settled = delivery.settle(claim.number, &outcome(Class::UnknownOutcome), &[A, B], due, 1);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
}

#[test]
fn an_unknown_outcome_without_another_provider_is_not_sent_again() {
    let mut delivery = new();
    let settled = settle(&mut delivery, 1, Class::UnknownOutcome, &[A]);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
}

#[test]
fn an_unknown_outcome_is_asked_again_where_that_is_safe() {
    let mut delivery = new();
    assert_eq!(settle(&mut delivery, 1, Class::UnknownOutcome, &[Y, B]), Settled::Waits);
    let Claimed::Yours(claim) = delivery.claim(&[Y, B], SECOND + UNKNOWN_WAIT) else { panic!() };
    assert_eq!(claim.turn, 0);
    let settled = settle(&mut delivery, claim.number, Class::Duplicate, &[Y, B]);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
    assert_eq!(delivery.status(), "accepted");
}

#[test]
fn a_refusal_after_an_unknown_outcome_leaves_it_unknown() {
    let mut delivery = new();
    settle(&mut delivery, 1, Class::UnknownOutcome, &[Y]);
    let Claimed::Yours(claim) = delivery.claim(&[Y], SECOND + UNKNOWN_WAIT) else { panic!() };
    let settled = settle(&mut delivery, claim.number, Class::RateLimitedNumber, &[Y]);
    assert_eq!(settled, Settled::Ended { surely_not_sent: false });
    assert!(delivery.receive(&receipt("m1", true), 20 * SECOND));
}

#[test]
fn a_silent_provider_that_deduplicates_is_left_after_two_tries() {
    let mut delivery = new();
    settle(&mut delivery, 1, Class::UnknownOutcome, &[Y, B]);
    let due = delivery.due_at().unwrap();
    let Claimed::Yours(again) = delivery.claim(&[Y, B], due) else { panic!() };
    assert_eq!(again.turn, 0);
    delivery.settle(again.number, &outcome(Class::UnknownOutcome), &[Y, B], due, 1);
    let due = delivery.due_at().unwrap();
    let Claimed::Yours(next) = delivery.claim(&[Y, B], due) else { panic!() };
    assert_eq!(next.turn, 1);
}

#[test]
fn a_receipt_may_come_before_the_answer() {
    let mut delivery = new();
    assert!(delivery.receive(&receipt("m1", true), SECOND));
    assert_eq!(delivery.settle(1, &Outcome::accepted("m1"), &[A], SECOND, 1), Settled::TooLate);
    assert_eq!(delivery.status(), "delivered");
}

fn receipt(message_id: &str, arrived: bool) -> Receipt {
    let (reference, message_id) = (String::new(), message_id.to_owned());
    Receipt { reference, message_id, arrived, vendor_code: "DELIVRD".into() }
}

#[test]
fn receipts_only_move_forward() {
    let mut delivery = new();
    delivery.settle(1, &Outcome::accepted("m1"), &[A], SECOND, 1);
    assert!(!delivery.receive(&receipt("m2", true), SECOND), "another message's");
    let forged = Receipt { vendor_code: "x y\n".into(), ..receipt("m1", true) };
    assert!(!delivery.receive(&forged, SECOND));
    assert!(delivery.receive(&receipt("m1", true), SECOND));
    assert!(!delivery.receive(&receipt("m1", true), SECOND), "twice");
    assert!(!delivery.receive(&receipt("m1", false), SECOND), "backwards");
    assert_eq!(delivery.status(), "delivered");
}

#[test]
fn a_receipt_clears_up_an_unknown_outcome() {
    let mut delivery = new();
    settle(&mut delivery, 1, Class::UnknownOutcome, &[A, B]);
    assert!(delivery.receive(&receipt("m1", true), 2 * SECOND));
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
    assert!(!delivery.receive(&receipt("m1", true), 3 * SECOND), "nothing was sent");
    // What went out cannot be stopped, and its receipt is still welcome.
    let mut maybe = new();
    settle(&mut maybe, 1, Class::UnknownOutcome, &[A, B]);
    let stopped = maybe.stop(Unwanted::Superseded, 2 * SECOND);
    assert_eq!(stopped, Settled::Ended { surely_not_sent: false });
    assert!(maybe.receive(&receipt("m1", true), 3 * SECOND));
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
                    Claimed::NotDue => panic!("seed {seed}: due and not due"),
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
