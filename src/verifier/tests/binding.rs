//! What a minted challenge is bound to, and every way to use it where it does not belong.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::domain::altcha;
use crate::domain::challenge::TTL;
use crate::domain::minted::{Kind, Version};
use crate::domain::policy::Challenges;
use crate::domain::risk::{Counts, Hint};

const HOME: &str = "203.0.113.7";
const NEAR: &str = "203.0.113.250";
const AWAY: &str = "203.0.114.7";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A world in which work is light, and version 1 is taken.
fn world() -> World {
    with_limits(Counts { wrong: 4_000_000, asked: 4_000_000, prefix: 4_000_000 })
}

fn with_limits(limits: Counts) -> World {
    let mut world = World::new(None);
    let work_cost = std::num::NonZeroU32::new(2).unwrap();
    let audio = Challenges::default().audio;
    let challenges = Challenges { work_cost, work_tries: 50, altcha_v1: true, limits, audio };
    world.verifier.policy = Arc::new(Policy { challenges, ..Policy::default() });
    world
}

fn mint(world: &World, wish: Kind, purpose: Option<&str>, from: Option<&str>) -> Minting {
    let address = from.map(address);
    let ask = Ask { tenant: "shop", purpose, address, hint: Hint::Low, wish };
    world.verifier.ask_challenge(&ask).unwrap()
}

/// The right answer to it.
pub(super) fn answer(world: &World, minting: &Minting) -> String {
    match world.verifier.work(minting) {
        None => world.verifier.minted_picture(&minting.minted).text,
        Some(work) => STANDARD.encode(solve(&serde_json::to_value(work).unwrap()).to_string()),
    }
}

fn solve(work: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if let Some(salt) = work["salt"].as_str() {
        let number = (0..100_000)
            .find(|number| altcha::hash_v1(salt, *number) == work["challenge"])
            .unwrap();
        let mut solved = work.clone();
        solved["number"] = json!(number);
        return solved;
    }
    let parameters = &work["parameters"];
    let bytes = |name: &str| hex::decode(text(&parameters[name])).unwrap();
    let (salt, nonce, prefix) = (bytes("salt"), bytes("nonce"), bytes("keyPrefix"));
    let cost = u32::try_from(parameters["cost"].as_u64().unwrap()).unwrap();
    let cost = std::num::NonZeroU32::new(cost).unwrap();
    let (counter, key) = (0..1_000_000)
        .map(|counter| (counter, altcha::derive(cost, &salt, &nonce, counter)))
        .find(|(_, key)| key.starts_with(&prefix))
        .unwrap();
    json!({"challenge": work, "solution": {"counter": counter, "derivedKey": hex::encode(key)}})
}

/// Starts with this answer, each time for another phone.
async fn start(world: &World, tenant: &str, answered: Answered, from: Option<&str>) -> Outcome {
    static PHONES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1000);
    let number = PHONES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let address = from.map(address);
    let asker = Asker { tenant: tenant.into(), address, idempotency: None };
    let request = StartRequest { asker, answered: Some(answered), ..request(number) };
    world.verifier.start(request).await.unwrap().map(|_| ())
}

type Outcome = Result<(), Refusal>;
/// Purpose and address at the minting; tenant, address and outcome at the start.
type Case =
    (Option<&'static str>, Option<&'static str>, &'static str, Option<&'static str>, Outcome);

/// Gives an answer to a challenge for `login`.
async fn give(
    world: &World,
    tenant: &str,
    id: Option<&str>,
    answer: &str,
    from: Option<&str>,
) -> Outcome {
    let reply = Reply { tenant, id, purpose: "login", address: from.map(address) };
    let answered = world.verifier.answered(&reply, answer.to_owned());
    start(world, tenant, answered, from).await
}

const KINDS: [Kind; 3] = [Kind::Image, Kind::Work(Version::Two), Kind::Work(Version::One)];
const ENDED: Outcome = Err(Refusal::ChallengeExpired);

#[tokio::test]
async fn every_kind_is_bound_to_purpose_tenant_and_network() {
    let world = world();
    for kind in KINDS {
        let cases: [Case; 11] = [
            (None, None, "shop", None, Ok(())),
            (None, None, "shop", Some(AWAY), Ok(())),
            (None, None, "bank", None, ENDED),
            (Some("login"), None, "shop", None, Ok(())),
            (Some("pay"), None, "shop", None, ENDED),
            (None, Some(HOME), "shop", Some(HOME), Ok(())),
            (None, Some(HOME), "shop", Some(NEAR), Ok(())),
            (None, Some(HOME), "shop", Some(AWAY), ENDED),
            (None, Some(HOME), "shop", Some("2001:db8::1"), ENDED),
            (None, Some(HOME), "shop", None, Ok(())),
            (Some("pay"), Some(HOME), "shop", Some(HOME), ENDED),
        ];
        for (purpose, minted_from, tenant, from, expected) in cases {
            let minting = mint(&world, kind, purpose, minted_from);
            let answer = answer(&world, &minting);
            let outcome = give(&world, tenant, Some(&minting.id), &answer, from).await;
            assert_eq!(outcome, expected, "{kind:?} {purpose:?} {minted_from:?} {tenant} {from:?}");
            if expected == ENDED {
                // What does not fit is not judged, so nobody else can spend it.
                let fits = minting.minted.fits("login", None);
                let again = give(&world, "shop", Some(&minting.id), &answer, minted_from).await;
                assert_eq!(again.is_ok(), fits, "{kind:?} {purpose:?} {minted_from:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_byte_of_a_seal_can_be_changed_and_no_kind_passes_for_another() {
    let world = world();
    for kind in KINDS {
        let minting = mint(&world, kind, None, None);
        let right = answer(&world, &minting);
        let sealed = URL_SAFE_NO_PAD.decode(minting.id.strip_prefix("shop~").unwrap()).unwrap();
        for (at, bit) in (0..sealed.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bent = sealed.clone();
            bent[at] ^= 1 << bit;
            let id = format!("shop~{}", URL_SAFE_NO_PAD.encode(bent));
            let outcome = give(&world, "shop", Some(&id), &right, None).await;
            assert_eq!(outcome, ENDED, "{kind:?} byte {at} bit {bit}");
        }
        let others = [&minting.id[5..], "", "shop~", "~", &minting.id[..minting.id.len() - 1]];
        for id in others {
            assert_eq!(give(&world, "shop", Some(id), &right, None).await, ENDED, "{id}");
        }
        for other in KINDS.into_iter().filter(|other| *other != kind) {
            let swapped = mint(&world, other, None, None);
            let outcome = give(&world, "shop", Some(&swapped.id), &right, None).await;
            assert_eq!(outcome, Err(Refusal::ChallengeWrong), "{kind:?} for {other:?}");
            let own = answer(&world, &swapped);
            let spent = give(&world, "shop", Some(&swapped.id), &own, None).await;
            assert_eq!(spent, ENDED, "a wrong answer spends {other:?}");
        }
        assert_eq!(give(&world, "shop", Some(&minting.id), &right, None).await, Ok(()));
        assert_eq!(give(&world, "shop", Some(&minting.id), &right, None).await, ENDED);
    }
}

#[tokio::test]
async fn a_challenge_ends_to_the_millisecond_and_is_used_once_at_once() {
    for kind in KINDS {
        for (early, expected) in [(1, Ok(())), (0, ENDED)] {
            let world = world();
            let minting = mint(&world, kind, None, Some(HOME));
            let right = answer(&world, &minting);
            world.clock.advance(TTL - early);
            let outcome = give(&world, "shop", Some(&minting.id), &right, Some(HOME)).await;
            assert_eq!(outcome, expected, "{kind:?} {early}");
        }
        let mut world = world();
        let minting = mint(&world, kind, None, None);
        let right = answer(&world, &minting);
        world.store.set_stumbling(Some(7));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200 {
            let reply = reply("shop", &minting.id);
            let answered = Some(world.verifier.answered(&reply, right.clone()));
            let (verifier, ask) =
                (world.verifier.clone(), StartRequest { answered, ..request(number) });
            tasks.spawn(async move { verifier.start(ask).await });
        }
        let outcomes = tasks.join_all().await;
        let ok = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(_)))).count();
        assert!(ok <= 1 && world.messages() <= 1, "{kind:?}: {ok}");
    }
}

#[tokio::test]
async fn a_payload_names_its_own_challenge_and_only_that() {
    let world = world();
    for kind in [Kind::Work(Version::Two), Kind::Work(Version::One)] {
        let (one, two) = (mint(&world, kind, None, None), mint(&world, kind, None, None));
        let right = answer(&world, &one);
        let other = give(&world, "shop", Some(&two.id), &right, None).await;
        assert_eq!(other, Err(Refusal::ChallengeWrong), "another's solution");
        assert_eq!(give(&world, "shop", None, &right, None).await, Ok(()));
        assert_eq!(give(&world, "shop", None, &right, None).await, ENDED);
        for text in ["", "ABCD", "e30=", "!"] {
            assert_eq!(give(&world, "shop", None, text, None).await, ENDED, "{text}");
        }
    }
}

#[tokio::test]
async fn work_and_picture_are_judged_together_and_vouched_for_once() {
    // A quarter of the limit was asked for, so pictures come on top.
    let world = with_limits(Counts { wrong: 8, asked: 40, prefix: 4000 });
    for _ in 0..10 {
        mint(&world, Kind::Image, None, Some(HOME));
    }
    for version in [Version::Two, Version::One] {
        let wish = Kind::WorkThenImage(version);
        let reply =
            Reply { tenant: "shop", id: None, purpose: "login", address: Some(address(HOME)) };
        let pass = |payload: &str, code: &str| {
            let (payload, code) = (payload.to_owned(), Some(code.to_owned()));
            async { world.verifier.pass(&reply, payload, code).await.unwrap() }
        };
        let minting = mint(&world, wish, None, Some(HOME));
        assert_eq!(minting.minted.kind, wish);
        let payload = answer(&world, &minting);
        let code = world.verifier.minted_picture(&minting.minted).text;
        let alone = give(&world, "shop", None, &payload, Some(HOME)).await;
        assert_eq!(alone, Err(Refusal::ChallengeWrong), "work alone is half of it");
        assert_eq!(pass(&payload, &code).await, Err(Refusal::ChallengeExpired), "it is spent");

        let minting = mint(&world, wish, None, Some(HOME));
        let payload = answer(&world, &minting);
        assert_eq!(pass(&payload, "....").await, Err(Refusal::ChallengeWrong));

        let minting = mint(&world, wish, None, Some(HOME));
        let payload = answer(&world, &minting);
        let code = world.verifier.minted_picture(&minting.minted).text;
        let vouched = pass(&payload, &code).await.unwrap();
        assert_eq!(pass(&vouched, &code).await, Err(Refusal::ChallengeExpired), "not twice");
        assert_eq!(give(&world, "shop", None, &vouched, Some(AWAY)).await, ENDED);
        assert_eq!(give(&world, "bank", None, &vouched, Some(HOME)).await, ENDED);
        assert_eq!(give(&world, "shop", None, &vouched, Some(HOME)).await, Ok(()));
        assert_eq!(give(&world, "shop", None, &vouched, Some(HOME)).await, ENDED);
    }
}

#[tokio::test]
async fn after_too_many_wrong_answers_none_is_judged_and_none_is_spent() {
    let world = with_limits(Counts { wrong: 8, asked: 4000, prefix: 4000 });
    let spare = mint(&world, Kind::Image, None, Some(HOME));
    for _ in 0..8 {
        let minting = mint(&world, Kind::Image, None, Some(HOME));
        let wrong = give(&world, "shop", Some(&minting.id), "....", Some(HOME)).await;
        assert_eq!(wrong, Err(Refusal::ChallengeWrong));
    }
    let right = answer(&world, &spare);
    let Err(Refusal::Throttled { retry_at, limit: "challenges" }) =
        give(&world, "shop", Some(&spare.id), &right, Some(HOME)).await
    else {
        panic!("a ninth answer was judged")
    };
    let ask = Ask {
        tenant: "shop",
        purpose: None,
        address: Some(address(HOME)),
        hint: Hint::Low,
        wish: Kind::Image,
    };
    let refused = world.verifier.ask_challenge(&ask);
    assert_eq!(refused, Err(Refusal::Throttled { retry_at, limit: "challenges" }));
    // Another address is not concerned, nor is a server; right answers count nothing.
    assert_eq!(give(&world, "shop", Some(&spare.id), &right, None).await, Ok(()));
    for _ in 0..20 {
        let minting = mint(&world, Kind::Image, None, Some(AWAY));
        let right = answer(&world, &minting);
        assert_eq!(give(&world, "shop", Some(&minting.id), &right, Some(AWAY)).await, Ok(()));
    }
    world.clock.advance(retry_at - world.clock.now());
    assert!(world.verifier.ask_challenge(&ask).is_ok());
}

#[tokio::test]
async fn the_ladder_asks_for_more_and_the_timeline_says_why() {
    let world = with_limits(Counts { wrong: 8, asked: 400, prefix: 4000 });
    let ask = |hint, wish| Ask { tenant: "shop", purpose: None, address: None, hint, wish };
    let kind = |hint, wish| {
        let minted = world.verifier.ask_challenge(&ask(hint, wish)).unwrap().minted;
        (minted.kind, minted.level.number())
    };
    let work = Kind::Work(Version::Two);
    assert_eq!(kind(Hint::Low, work), (work, 1));
    assert_eq!(kind(Hint::Elevated, Kind::Image), (Kind::Image, 1));
    assert_eq!(kind(Hint::High, work), (Kind::Image, 2));
    assert!(matches!(world.verifier.ask_waiver(None, Hint::Low), Ok(Ok(Answered::Waived(_)))));
    let asked = world.verifier.ask_waiver(None, Hint::Elevated);
    assert!(matches!(asked, Ok(Err(Kind::Work(_)))));
    assert!(matches!(world.verifier.ask_waiver(None, Hint::High), Ok(Err(Kind::Image))));

    let hard = world.verifier.ask_challenge(&ask(Hint::High, work)).unwrap();
    let waived = world.verifier.ask_waiver(None, Hint::Low).unwrap().unwrap();
    let text = world.verifier.minted_picture(&hard.minted).text;
    let read = world.verifier.answered(&reply("shop", &hard.id), text);
    for (number, answered, how, reason) in
        [(1, Some(read), "image", "caller_hint"), (2, Some(waived), "none", "calm")]
    {
        let ask = StartRequest { answered, ..request(number) };
        let view = world.verifier.start(ask).await.unwrap().unwrap();
        let look = world.verifier.timeline("shop", view.id).await.unwrap().unwrap();
        let first = &look.events[0];
        assert_eq!((first.event, first.class), ("challenge_passed", Some(how)));
        assert_eq!(first.code.as_deref(), Some(reason));
    }
    let plain = world.verifier.start(request(3)).await.unwrap().unwrap();
    let look = world.verifier.timeline("shop", plain.id).await.unwrap().unwrap();
    assert_eq!(look.events[0].event, "started", "a server's start meets no challenge");
}

#[tokio::test]
async fn judging_work_costs_little_beside_doing_it() {
    let world = world();
    let minting = mint(&world, Kind::Work(Version::Two), None, Some(HOME));
    let payload = answer(&world, &minting);
    let reply = Reply { tenant: "shop", id: None, purpose: "login", address: Some(address(HOME)) };
    let rounds = std::num::NonZeroU32::new(1000).unwrap();
    // The least of several runs each: others use this machine, too.
    let least = |times: u32, work: &dyn Fn()| {
        let runs = (0..7).map(|_| {
            let began = std::time::Instant::now();
            (0..times).for_each(|_| work());
            began.elapsed() / times
        });
        runs.min().unwrap()
    };
    let judged = least(200, &|| {
        let answered = world.verifier.answered(&reply, payload.clone());
        assert!(matches!(answered, Answered::Minted { given: Given::Work(_, true), .. }));
    });
    let derived = least(20, &|| {
        std::hint::black_box(altcha::derive(rounds, &[1; 16], &[2; 16], 3));
    });
    println!("judging a solution takes {judged:?}, one derivation of 1000 rounds {derived:?}");
    assert!(judged * 2 < derived, "{judged:?} of {derived:?}");
}
