use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;

mod binding;
mod hearing;
mod third_party;

use super::*;
use crate::chance::SeededChance;
use crate::clock::{DAY, HOUR, MINUTE, SECOND};
use crate::domain::code::Code;
use crate::domain::phone::{PhoneRules, Region};
use crate::keys;
use crate::store::memory::MemoryStore;

struct World {
    verifier: Verifier,
    clock: Clock,
    handoffs: mpsc::Receiver<Handoff>,
    store: Arc<MemoryStore>,
}

impl World {
    fn new(stumbling: Option<u64>) -> Self {
        let clock = Clock::manual(1_735_749_045_000);
        let store = Arc::new(MemoryStore::new(clock.clone()));
        store.set_stumbling(stumbling);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ring = keys::load_or_make(&path, clock.wall(), &mut SeededChance(1)).unwrap();
        let (sender, handoffs) = mpsc::channel(10_000);
        let policy = Policy { address_per_hour: 30, ..Policy::default() };
        let verifier = Verifier::new(
            Arc::clone(&store) as Arc<dyn Store>,
            clock.clone(),
            Keys::new(ring),
            policy,
            "https://verify.example",
            sender,
        );
        Self { verifier, clock, handoffs, store }
    }

    /// Puts another ring in the place of this one, in which no key of the old one is known for
    /// this use, as after a rotation whose overlap is over.
    fn rotate(&self, usage: keys::Use) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let (mut chance, wall) = (SeededChance(1), self.clock.wall());
        keys::load_or_make(&path, wall - 2 * DAY, &mut chance).unwrap();
        keys::add_key(&path, usage, wall - DAY, &mut chance).unwrap();
        self.verifier.keys.replace(keys::load(&path, wall).unwrap());
    }

    /// The code of the newest message, as the provider would get it.
    fn code(&mut self) -> Code {
        let mut last = None;
        while let Ok(handoff) = self.handoffs.try_recv() {
            last = Some(handoff);
        }
        let letter = last.expect("a message was handed over").claim.letter;
        let ring = self.verifier.keys.ring();
        let opened = ring.open(keys::Use::Sealing, Letter::PURPOSE, &letter).unwrap();
        let letter: Letter = serde_json::from_slice(&opened).unwrap();
        Code::parse(&letter.code).unwrap()
    }

    fn messages(&mut self) -> usize {
        std::iter::from_fn(|| self.handoffs.try_recv().ok()).count()
    }

    async fn check(&self, id: VerificationId, code: &Code) -> Checked {
        self.verifier.check("shop", Target::Id(id), code.clone()).await.unwrap()
    }
}

fn phone(number: u32) -> Phone {
    let rules = PhoneRules { default_region: Region::CN, countries: BTreeSet::from([Region::CN]) };
    Phone::parse(&format!("138{number:08}"), &rules).unwrap()
}

fn request(number: u32) -> StartRequest {
    StartRequest {
        asker: Asker { tenant: "shop".into(), address: None, idempotency: None },
        phone: phone(number),
        purpose: "login".into(),
        locale: "zh".into(),
        answered: None,
    }
}

fn reply<'a>(tenant: &'a str, id: &'a str) -> Reply<'a> {
    Reply { tenant, id: Some(id), purpose: "login", address: None }
}

fn asker(key: &str, body: &str) -> Asker {
    let idempotency = Some(Idempotency { key: key.into(), body: body.into() });
    Asker { tenant: "shop".into(), address: None, idempotency }
}

fn wrong(code: &Code) -> Code {
    Code::parse(if code.digits() == "000000" { "111111" } else { "000000" }).unwrap()
}

#[tokio::test]
async fn a_right_code_gives_a_token_once() {
    let mut world = World::new(None);
    let view = world.verifier.start(request(1)).await.unwrap().unwrap();
    assert_eq!((view.status.as_str(), view.checks_left, view.sends_left), ("pending", 5, 4));
    let code = world.code();
    let Checked::Approved(approval) = world.check(view.id, &code).await else { panic!() };
    assert_eq!(approval.view.status, "approved");
    assert_eq!(approval.token.split('.').count(), 3);
    let again = world.check(view.id, &code).await;
    assert!(matches!(again, Checked::Refused(Refusal::NotFound)));
}

#[tokio::test]
async fn failures_survive_a_resend_and_a_new_verification() {
    let mut world = World::new(None);
    let first = world.verifier.start(request(1)).await.unwrap().unwrap();
    let mut code = world.code();
    let mut id = first.id;
    // Four wrong guesses at each of the codes, with resends and new verifications between.
    let mut failures = 0;
    for round in 0..12 {
        for left in [4, 3, 2, 1] {
            let judged = world.check(id, &wrong(&code)).await;
            assert!(matches!(judged, Checked::Wrong { checks_left } if checks_left == left));
            failures += 1;
        }
        world.clock.advance(if round % 3 == 0 { 2 * MINUTE } else { 6 * HOUR });
        let asker = Asker { tenant: "shop".into(), address: None, idempotency: None };
        id = match world.verifier.resend(asker, id).await.unwrap() {
            Ok(view) => view.id,
            Err(_) => world.verifier.start(request(1)).await.unwrap().unwrap().id,
        };
        code = world.code();
    }
    assert_eq!(failures, 48);
    world.check(id, &wrong(&code)).await;
    world.check(id, &wrong(&code)).await;
    // The fiftieth locked the phone: not even the right code is judged, and no start is wasted.
    let locked = world.check(id, &code).await;
    assert!(matches!(locked, Checked::Refused(Refusal::Locked { .. })), "{locked:?}");
    world.clock.advance(2 * MINUTE);
    let refused = world.verifier.start(request(1)).await.unwrap().unwrap_err();
    assert!(matches!(refused, Refusal::Locked { .. }), "{refused:?}");
    // Another tenant's and another purpose's failures are their own.
    let other = StartRequest { purpose: "reset".into(), ..request(1) };
    assert!(world.verifier.start(other).await.unwrap().is_ok());
    world.clock.advance(DAY);
    let after = world.verifier.start(request(1)).await.unwrap().unwrap();
    let code = world.code();
    assert!(matches!(world.check(after.id, &code).await, Checked::Approved(_)));
}

#[tokio::test]
async fn a_new_verification_takes_the_old_ones_place() {
    let mut world = World::new(None);
    let old = world.verifier.start(request(1)).await.unwrap().unwrap();
    let old_code = world.code();
    world.clock.advance(MINUTE);
    let new = world.verifier.start(request(1)).await.unwrap().unwrap();
    let refused = world.check(old.id, &old_code).await;
    assert!(matches!(refused, Checked::Refused(Refusal::NotFound)));
    let seen = world.verifier.look("shop", old.id).await.unwrap().unwrap();
    assert_eq!(seen.status, "canceled");
    assert_eq!(world.verifier.look("shop", new.id).await.unwrap().unwrap().status, "pending");
    assert_eq!(world.verifier.look("bank", new.id).await.unwrap(), None);
}

#[tokio::test]
async fn an_address_is_counted_and_given_back_when_the_phone_refuses() {
    let world = World::new(None);
    let address = Some("2001:db8:1:2:3::4".parse().unwrap());
    let from = |number| {
        let asker = Asker { tenant: "shop".into(), address, idempotency: None };
        StartRequest { asker, ..request(number) }
    };
    for number in 0..30 {
        assert!(world.verifier.start(from(number)).await.unwrap().is_ok());
        let again = world.verifier.start(from(number)).await.unwrap();
        assert!(matches!(again, Err(Refusal::Throttled { limit: "phone" | "address", .. })));
    }
    let refused = world.verifier.start(from(99)).await.unwrap().unwrap_err();
    assert!(matches!(refused, Refusal::Throttled { limit: "address", .. }));
    // A resend counts as a message, too.
    let fresh = Some("2001:db8:1:9::1".parse().unwrap());
    let asker = |address| Asker { tenant: "shop".into(), address, idempotency: None };
    let started = StartRequest { asker: asker(fresh), ..request(200) };
    let view = world.verifier.start(started).await.unwrap().unwrap();
    world.clock.advance(MINUTE);
    let refused = world.verifier.resend(asker(address), view.id).await.unwrap();
    assert!(matches!(refused, Err(Refusal::Throttled { limit: "address", .. })), "{refused:?}");
    assert!(world.verifier.resend(asker(fresh), view.id).await.unwrap().is_ok());
    // The same network, another host in it; and another network.
    let neighbour = Some("2001:db8:1:2:ffff::9".parse().unwrap());
    let stranger = Some("2001:db8:1:3::4".parse().unwrap());
    for (address, fine) in [(neighbour, false), (stranger, true)] {
        let asker = Asker { tenant: "shop".into(), address, idempotency: None };
        let started = world.verifier.start(StartRequest { asker, ..request(100) }).await.unwrap();
        assert_eq!(started.is_ok(), fine);
    }
}

#[tokio::test]
async fn an_idempotency_key_sends_one_message() {
    let mut world = World::new(None);
    let ask =
        |key: &str, body: &str, number| StartRequest { asker: asker(key, body), ..request(number) };
    let first = world.verifier.start(ask("k", "b", 1)).await.unwrap().unwrap();
    let again = world.verifier.start(ask("k", "b", 1)).await.unwrap().unwrap();
    assert_eq!(first, again);
    let other = world.verifier.start(ask("k", "c", 2)).await.unwrap();
    assert_eq!(other, Err(Refusal::KeyReused));
    assert_eq!(world.messages(), 1);
    // A refused request leaves the key free.
    let refused = world.verifier.start(ask("k2", "b", 1)).await.unwrap();
    assert!(matches!(refused, Err(Refusal::Throttled { .. })));
    assert!(world.verifier.start(ask("k2", "c", 3)).await.unwrap().is_ok());
    world.clock.advance(MINUTE);
    let resend = |key| world.verifier.resend(asker(key, "r"), first.id);
    let (one, two) = (resend("k3").await.unwrap(), resend("k3").await.unwrap());
    assert!(one.is_ok());
    assert_eq!(one, two);
    assert_eq!(world.messages(), 2);
}

#[tokio::test]
async fn a_remembered_answer_outlives_the_challenge_and_its_key() {
    let mut world = World::new(None);
    let minting = world.verifier.mint_challenge("shop");
    let minted = world.verifier.open_challenge(&minting.id).unwrap();
    let text = world.verifier.minted_picture(&minted).text;
    let ask = |world: &World, key: &str, number| StartRequest {
        asker: asker(key, "b"),
        answered: Some(world.verifier.answered(&reply("shop", &minting.id), text.clone())),
        ..request(number)
    };
    let first = world.verifier.start(ask(&world, "k", 1)).await.unwrap().unwrap();
    // Spent, then over, then sealed under a key that is gone: a repeat is the first answer still,
    // and any other request is refused.
    for hours in [0, 1, 22] {
        world.clock.advance(hours * HOUR + SECOND);
        if hours == 1 {
            world.rotate(keys::Use::Challenge);
        }
        let again = world.verifier.start(ask(&world, "k", 1)).await.unwrap();
        assert_eq!(again.as_ref(), Ok(&first), "{hours}");
        let fresh = world.verifier.start(ask(&world, "other", 2)).await.unwrap();
        assert_eq!(fresh, Err(Refusal::ChallengeExpired), "{hours}");
    }
    assert!(world.verifier.open_challenge(&minting.id).is_none());
    assert_eq!(world.messages(), 1);
    world.clock.advance(HOUR);
    let forgotten = world.verifier.start(ask(&world, "k", 1)).await.unwrap();
    assert_eq!(forgotten, Err(Refusal::ChallengeExpired), "a day is over");
}

#[tokio::test]
async fn a_stumbling_store_never_sends_twice_under_one_key() {
    for seed in 0..150 {
        let world = World::new(Some(seed));
        let mut landed = 0;
        // A failure leaves the key taken for fifteen seconds, one of which passes at each try.
        for _ in 0..200 {
            let ask = StartRequest { asker: asker("k", "b"), ..request(1) };
            match world.verifier.start(ask).await {
                Ok(Ok(_)) => landed += 1,
                Ok(Err(Refusal::KeyInFlight)) => world.clock.advance(SECOND),
                Ok(Err(refusal)) => panic!("seed {seed}: {refusal:?}"),
                Err(_) => {}
            }
        }
        assert!(landed > 0, "seed {seed}");
        world.store.set_stumbling(None);
        let now = world.clock.now() + HOUR;
        let deliveries = world.store.due(now, 100).await.unwrap();
        assert_eq!(deliveries.len(), 1, "seed {seed}: messages owed");
    }
}

#[tokio::test]
async fn racing_checks_judge_five_and_approve_once_on_a_stumbling_store() {
    for seed in 0..20 {
        let mut world = World::new(None);
        let view = world.verifier.start(request(1)).await.unwrap().unwrap();
        let code = world.code();
        world.store.set_stumbling(Some(seed));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..60 {
            let (verifier, code) = (world.verifier.clone(), code.clone());
            let guess = if task % 2 == 0 && seed % 2 == 0 { code } else { wrong(&code) };
            tasks.spawn(async move { verifier.check("shop", Target::Id(view.id), guess).await });
        }
        let (mut right, mut judged_wrong) = (0, 0);
        while let Some(checked) = tasks.join_next().await {
            match checked.unwrap() {
                Ok(Checked::Approved(_)) => right += 1,
                Ok(Checked::Wrong { .. }) => judged_wrong += 1,
                Ok(Checked::Refused(_)) | Err(_) => {}
            }
        }
        assert!(
            right <= 1 && judged_wrong <= 5,
            "seed {seed}: {right} right, {judged_wrong} wrong"
        );
    }
}

#[tokio::test]
async fn a_rotated_pepper_and_sealing_key_still_serve_what_is_out() {
    let mut world = World::new(None);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let mut chance = SeededChance(2);
    let ring = keys::load_or_make(&path, world.clock.wall(), &mut chance).unwrap();
    world.verifier.keys.replace(ring);
    let view = world.verifier.start(request(1)).await.unwrap().unwrap();
    let code = world.code();
    for usage in [keys::Use::Pepper, keys::Use::Sealing, keys::Use::Challenge] {
        keys::add_key(&path, usage, world.clock.wall(), &mut chance).unwrap();
    }
    world.verifier.keys.replace(keys::load(&path, world.clock.wall()).unwrap());
    assert!(matches!(world.check(view.id, &code).await, Checked::Approved(_)));
}

#[tokio::test]
async fn number_and_digest_are_gone_when_the_code_ends() {
    // Run out, used up, right, given up, superseded: each in its own way, all alike afterwards.
    for way in ["expired", "max_attempts_reached", "approved", "canceled", "superseded"] {
        let mut world = World::new(None);
        let view = world.verifier.start(request(1)).await.unwrap().unwrap();
        let code = world.code();
        let keys = [records::live_code(&view.id), records::verification(&view.id)];
        let before = world.store.read(&keys).await.unwrap();
        let secret: serde_json::Value =
            serde_json::from_slice(&before[0].as_ref().unwrap().value).unwrap();
        match way {
            "expired" => world.clock.advance(5 * MINUTE),
            "max_attempts_reached" => {
                for _ in 0..5 {
                    world.check(view.id, &wrong(&code)).await;
                }
            }
            "approved" => drop(world.check(view.id, &code).await),
            "canceled" => drop(world.verifier.cancel("shop", view.id).await.unwrap()),
            _ => {
                world.clock.advance(MINUTE);
                world.verifier.start(request(1)).await.unwrap().unwrap();
            }
        }
        let after = world.store.read(&keys).await.unwrap();
        assert_eq!(after[0], None, "{way}");
        let story = String::from_utf8(after[1].clone().unwrap().value).unwrap();
        for member in ["digest", "phone"] {
            assert!(!story.contains(secret[member].as_str().unwrap()), "{way}: {member}");
        }
        let status = world.verifier.look("shop", view.id).await.unwrap().unwrap().status;
        assert_eq!(status, if way == "superseded" { "canceled" } else { way });
        let refused = world.check(view.id, &code).await;
        assert!(matches!(refused, Checked::Refused(Refusal::NotFound)), "{way}");
    }
}

#[tokio::test]
async fn clock_jumps_change_neither_a_code_nor_a_gap() {
    for jump in [HOUR, -HOUR, DAY, -DAY] {
        let mut world = World::new(None);
        let view = world.verifier.start(request(1)).await.unwrap().unwrap();
        let code = world.code();
        world.clock.jump_wall(jump);
        world.clock.advance(59 * SECOND);
        assert!(world.verifier.start(request(1)).await.unwrap().is_err(), "the gap holds");
        world.clock.advance(SECOND);
        world.clock.jump_wall(-2 * jump);
        assert!(matches!(world.check(view.id, &code).await, Checked::Approved(_)), "it lives");
        let second = world.verifier.start(request(1)).await.unwrap().unwrap();
        let code = world.code();
        world.clock.jump_wall(jump);
        world.clock.advance(5 * MINUTE);
        let late = world.check(second.id, &code).await;
        assert!(matches!(late, Checked::Refused(Refusal::NotFound)), "it ends");
    }
}
