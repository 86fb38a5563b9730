//! Challenges that a vendor judges: where they are bound, and that one token is good once.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::domain::challenge::TTL;
use crate::domain::minted::Version;
use crate::domain::risk::{Counts, Hint};
use crate::domain::third_party::Vendor;
use crate::providers::stub::{Requests, answer, vendor};
use crate::providers::transport;
use crate::third_party::Member;
use crate::third_party::settings::{Parts, Settings};

const HOME: &str = "203.0.113.7";
const AWAY: &str = "203.0.114.7";
const CAP: Kind = Kind::ThirdParty(Vendor::Cap, 0);
const OTHER: Kind = Kind::ThirdParty(Vendor::Hcaptcha, 1);
const YES: &[u8] = br#"{"success":true,"hostname":"shop.example"}"#;
const NO: &[u8] = br#"{"success":false,"error-codes":["invalid-input-response"]}"#;
const ENDED: Outcome = Err(Refusal::ChallengeExpired);

type Outcome = Result<(), Refusal>;

/// A world with two third parties that answer like this, and what they are asked.
async fn world(status: &str, body: &[u8], when_down: &str) -> (World, Requests) {
    let mut world = World::new(None);
    let (base_url, requests) = vendor(answer(status, body)).await;
    let clock = world.clock.clone();
    let parts = Parts { client: transport::client().unwrap(), clock };
    let member = |kind: &str, more: &str| {
        let table = format!(
            "kind = \"{kind}\"\nbase_url = \"{base_url}\"\nsite_key = \"site\"\n\
             secret_key = \"secret\"\nwhen_down = \"{when_down}\"\n{more}"
        );
        Member::new(Settings::read(table.parse().unwrap()).unwrap(), &parts)
    };
    let members = vec![member("cap", ""), member("hcaptcha", "hosts = [\"shop.example\"]\n")];
    let mut policy = Policy::default();
    policy.challenges.limits = Counts { wrong: 4_000_000, asked: 4_000_000, prefix: 4_000_000 };
    world.verifier = world.verifier.with_third_parties(ThirdParties::new(members));
    world.verifier.policy = Arc::new(policy);
    (world, requests)
}

fn count(requests: &Requests) -> usize {
    requests.lock().unwrap().len()
}

fn mint(world: &World, wish: Kind, purpose: Option<&str>, from: Option<&str>) -> Minting {
    let address = from.map(|text| text.parse().unwrap());
    let ask = Ask { tenant: "shop", purpose, address, hint: Hint::Low, wish };
    world.verifier.ask_challenge(&ask).unwrap()
}

/// Starts with this token for `login`, each time for another phone.
async fn give(world: &World, tenant: &str, id: &str, token: &str, from: Option<&str>) -> Outcome {
    static PHONES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(500_000);
    let number = PHONES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let address = from.map(|text| text.parse().unwrap());
    let reply = Reply { tenant, id: Some(id), purpose: "login", address };
    let answered = Some(world.verifier.answered(&reply, token.to_owned()));
    let asker = Asker { tenant: tenant.into(), address, idempotency: None };
    let request = StartRequest { asker, answered, ..request(number) };
    world.verifier.start(request).await.unwrap().map(|_| ())
}

#[tokio::test]
async fn it_is_bound_like_any_challenge_and_what_does_not_fit_is_not_asked_about() {
    let (world, requests) = world("200 OK", YES, "refuse").await;
    let mut token = 0..;
    let mut token = || format!("token-{}", token.next().unwrap());
    let fits = [
        (None, None, None),
        (Some("login"), None, Some(AWAY)),
        (None, Some(HOME), Some(HOME)),
        (None, Some(HOME), None),
    ];
    for (purpose, minted_from, from) in fits {
        let minting = mint(&world, CAP, purpose, minted_from);
        assert_eq!(minting.minted.kind, CAP);
        assert_eq!(give(&world, "shop", &minting.id, &token(), from).await, Ok(()));
    }
    let asked = count(&requests);
    assert_eq!(asked, fits.len());
    let misfits = [
        (Some("pay"), None, "shop", None),
        (None, Some(HOME), "shop", Some(AWAY)),
        (None, None, "bank", None),
    ];
    for (purpose, minted_from, tenant, from) in misfits {
        let minting = mint(&world, CAP, purpose, minted_from);
        assert_eq!(give(&world, tenant, &minting.id, &token(), from).await, ENDED);
    }
    let minting = mint(&world, CAP, None, None);
    let sealed = URL_SAFE_NO_PAD.decode(minting.id.strip_prefix("shop~").unwrap()).unwrap();
    for (at, bit) in (0..sealed.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut bent = sealed.clone();
        bent[at] ^= 1 << bit;
        let id = format!("shop~{}", URL_SAFE_NO_PAD.encode(bent));
        assert_eq!(give(&world, "shop", &id, "token", None).await, ENDED, "byte {at} bit {bit}");
    }
    assert_eq!(count(&requests), asked, "none of these was asked about");
    // A vendor that is not configured any more, or another at its place.
    for kind in [Kind::ThirdParty(Vendor::Cap, 1), Kind::ThirdParty(Vendor::Geetest, 7)] {
        let minting = mint(&world, kind, None, None);
        assert_eq!(give(&world, "shop", &minting.id, "token", None).await, ENDED);
    }
    assert_eq!(count(&requests), asked);
}

#[tokio::test]
async fn a_token_is_no_answer_to_another_kind_nor_the_other_way_round() {
    let (world, requests) = world("200 OK", NO, "refuse").await;
    for kind in [Kind::Image, Kind::Work(Version::Two), Kind::Work(Version::One)] {
        let minting = mint(&world, kind, None, None);
        let outcome = give(&world, "shop", &minting.id, "token", None).await;
        assert_eq!(outcome, Err(Refusal::ChallengeWrong), "{kind:?}");
    }
    assert_eq!(count(&requests), 0);
    let (image, theirs) = (mint(&world, Kind::Image, None, None), mint(&world, CAP, None, None));
    let text = world.verifier.minted_picture(&image.minted).text;
    let outcome = give(&world, "shop", &theirs.id, &text, None).await;
    assert_eq!(outcome, Err(Refusal::ChallengeWrong), "the vendor does not know that token");
    assert_eq!(count(&requests), 1);
    let widget = Reply { tenant: "shop", id: Some(&theirs.id), purpose: "login", address: None };
    let passed = world.verifier.pass(&widget, "token".to_owned(), None).await.unwrap();
    assert_eq!(passed, Err(Refusal::ChallengeExpired), "nothing is vouched for in its stead");
}

#[tokio::test]
async fn a_token_is_good_once_with_whatever_challenge_until_its_life_is_over() {
    // This vendor forgets which tokens were used.
    let (world, requests) = world("200 OK", YES, "refuse").await;
    let first = mint(&world, CAP, None, None);
    assert_eq!(give(&world, "shop", &first.id, "token", None).await, Ok(()));
    assert_eq!(give(&world, "shop", &first.id, "token", None).await, ENDED);
    let life = world.verifier.third_party(Vendor::Cap, 0).unwrap().token_life();
    world.clock.advance(life - 1);
    let second = mint(&world, CAP, None, None);
    assert_eq!(give(&world, "shop", &second.id, "token", None).await, ENDED);
    assert_eq!(count(&requests), 1, "what was used here is not asked about again");
    // Another vendor may call another token by the same text.
    let other = mint(&world, OTHER, None, None);
    assert_eq!(give(&world, "shop", &other.id, "token", None).await, Ok(()));
    world.clock.advance(1);
    assert_eq!(give(&world, "shop", &second.id, "token", None).await, Ok(()));
    assert_eq!(count(&requests), 3, "by now the vendor itself says that it is over");
}

#[tokio::test]
async fn a_challenge_ends_to_the_millisecond_and_a_refused_token_does_not_spend_it() {
    let (world, requests) = world("200 OK", YES, "refuse").await;
    let minting = mint(&world, CAP, None, Some(HOME));
    world.clock.advance(TTL - 1);
    assert_eq!(give(&world, "shop", &minting.id, "one", Some(HOME)).await, Ok(()));
    assert_eq!(give(&world, "shop", &minting.id, "two", Some(HOME)).await, Ok(()), "another token");
    world.clock.advance(1);
    assert_eq!(give(&world, "shop", &minting.id, "three", Some(HOME)).await, ENDED);
    assert_eq!(count(&requests), 2);
}

#[tokio::test]
async fn one_token_used_at_once_starts_one_verification_at_most() {
    let (mut world, _) = world("200 OK", YES, "refuse").await;
    world.store.set_stumbling(Some(7));
    let minting = mint(&world, CAP, None, None);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let answered = world.verifier.answered(&reply("shop", &minting.id), "token".to_owned());
        let (verifier, answered) = (world.verifier.clone(), Some(answered));
        let ask = StartRequest { answered, ..request(number) };
        tasks.spawn(async move { verifier.start(ask).await });
    }
    let outcomes = tasks.join_all().await;
    let ok = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(_)))).count();
    assert!(ok <= 1 && world.messages() <= 1, "{ok}");
}

#[tokio::test]
async fn while_the_vendor_is_down_the_operators_decision_holds() {
    let image = Some(Kind::Image);
    let work = Some(Kind::Work(Version::Two));
    for (word, instead) in [("refuse", None), ("image", image), ("proof-of-work", work)] {
        let (world, requests) = world("503 Busy", YES, word).await;
        assert_eq!(world.verifier.substitute(Vendor::Cap, 0), None, "it is not down yet");
        let minting = mint(&world, CAP, None, None);
        for _ in 0..3 {
            let outcome = give(&world, "shop", &minting.id, "token", None).await;
            let Err(Refusal::ThirdPartyDown { retry_at, instead: told }) = outcome else {
                panic!("{word}: {outcome:?}")
            };
            assert_eq!(told, instead);
            assert!(retry_at > world.clock.now());
        }
        assert_eq!(world.verifier.substitute(Vendor::Cap, 0), instead);
        assert_eq!(world.verifier.substitute(Vendor::Hcaptcha, 1), None, "the other is fine");
        let asked = count(&requests);
        // Now it is left alone: no start waits for it, and nobody is sent to its widget.
        let outcome = give(&world, "shop", &minting.id, "token", None).await;
        assert!(matches!(outcome, Err(Refusal::ThirdPartyDown { .. })), "{word}: {outcome:?}");
        assert_eq!(count(&requests), asked);
        let ask = Ask { tenant: "shop", purpose: None, address: None, hint: Hint::Low, wish: CAP };
        match (world.verifier.ask_challenge(&ask), instead) {
            (Err(Refusal::ThirdPartyDown { instead: None, .. }), None) => {}
            (Ok(minting), Some(instead)) => assert_eq!(minting.minted.kind, instead),
            (other, _) => panic!("{word}: {other:?}"),
        }
        // Who is under suspicion gets the picture that the ladder asks for, not less.
        let risky = Ask { hint: Hint::High, ..ask };
        if let Ok(minting) = world.verifier.ask_challenge(&risky) {
            assert_eq!((minting.minted.kind, minting.minted.level.number()), (Kind::Image, 2));
        }
    }
}

#[tokio::test]
async fn what_was_passed_and_why_it_was_asked_for_is_in_the_timeline() {
    let (world, _) = world("200 OK", YES, "refuse").await;
    let ask = Ask { tenant: "shop", purpose: None, address: None, hint: Hint::High, wish: CAP };
    let minting = world.verifier.ask_challenge(&ask).unwrap();
    assert_eq!(minting.minted.kind, CAP, "a vendor's challenge is one of every step");
    let answered = Some(world.verifier.answered(&reply("shop", &minting.id), "token".to_owned()));
    let ask = StartRequest { answered, ..request(1) };
    let view = world.verifier.start(ask).await.unwrap().unwrap();
    let look = world.verifier.timeline("shop", view.id).await.unwrap().unwrap();
    let first = &look.events[0];
    assert_eq!((first.event, first.class), ("challenge_passed", Some("cap")));
    assert_eq!(first.code.as_deref(), Some("caller_hint"));
}

#[tokio::test]
async fn a_start_that_is_repeated_gets_its_answer_without_the_vendor() {
    let (world, requests) = world("200 OK", YES, "refuse").await;
    let minting = mint(&world, CAP, None, None);
    let start = || {
        let answered = world.verifier.answered(&reply("shop", &minting.id), "token".to_owned());
        let (asker, answered) = (asker("order-1", "body"), Some(answered));
        world.verifier.start(StartRequest { asker, answered, ..request(1) })
    };
    let first = start().await.unwrap().unwrap();
    world.clock.advance(2 * TTL);
    assert_eq!(start().await.unwrap().unwrap().id, first.id);
    assert_eq!(count(&requests), 1);
}
