//! Challenges by ear: whichever of picture and clip is answered, right or wrong, both are spent;
//! and who listens is held back sooner than who looks.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::captcha::{Language, Level};
use crate::domain::challenge::{TTL, WINDOW};
use crate::domain::minted::{Kind, Version};
use crate::domain::policy::{Audio, Challenges};
use crate::domain::risk::Hint;

const HOME: &str = "203.0.113.7";
const AWAY: &str = "198.51.100.7";
const WRONG: Outcome = Err(Refusal::ChallengeWrong);
const ENDED: Outcome = Err(Refusal::ChallengeExpired);

type Outcome = Result<(), Refusal>;

/// A world in which work is light, and these limits hold for those who listen.
fn world(audio: Audio) -> World {
    let mut world = World::new(None);
    let work_cost = std::num::NonZeroU32::new(2).unwrap();
    let challenges = Challenges { work_cost, work_tries: 50, audio, ..Challenges::default() };
    world.verifier.policy = Arc::new(Policy { challenges, ..Policy::default() });
    world
}

const WIDE: Audio = Audio { answers: 1_000_000, clips: 1_000_000 };

fn mint(world: &World, hint: Hint, from: Option<&str>) -> Minting {
    let address = from.map(|from| from.parse().unwrap());
    let ask = Ask { tenant: "shop", purpose: None, address, hint, wish: Kind::Image };
    world.verifier.with_audio("shop", world.verifier.ask_challenge(&ask).unwrap())
}

fn heard(world: &World, minting: &Minting, language: Language) -> String {
    world.verifier.minted_clip(&minting.minted, language).unwrap().text
}

fn read(world: &World, minting: &Minting) -> String {
    world.verifier.minted_picture(&minting.minted).text
}

async fn start(world: &World, answered: Answered, from: Option<&str>) -> Outcome {
    static PHONES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(3000);
    let number = PHONES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let address: Option<IpAddr> = from.map(|from| from.parse().unwrap());
    let asker = Asker { tenant: "shop".into(), address, idempotency: None };
    let ask = StartRequest { asker, answered: Some(answered), ..request(number) };
    world.verifier.start(ask).await.unwrap().map(|_| ())
}

async fn give(world: &World, id: &str, answer: &str, from: Option<&str>) -> Outcome {
    let address = from.map(|from| from.parse().unwrap());
    let reply = Reply { tenant: "shop", id: Some(id), purpose: "login", address };
    let answered = world.verifier.answered(&reply, answer.to_owned());
    start(world, answered, from).await
}

async fn give_named(world: &World, name: &str, answer: &str) -> Outcome {
    start(world, Answered::Named { name: name.into(), answer: answer.into() }, None).await
}

#[tokio::test]
async fn picture_and_clips_are_one_challenge_and_are_spent_together() {
    let world = world(WIDE);
    // What is answered, and what came of it; then nothing else is good any more.
    for (case, expected) in [
        ("picture", Ok(())),
        ("zh", Ok(())),
        ("en", Ok(())),
        ("wide digits", Ok(())),
        ("wrong letters", WRONG),
        ("wrong digits", WRONG),
        ("another's digits", WRONG),
        ("another's picture", WRONG),
        ("the name's own seed door clip", WRONG),
    ] {
        let (one, other) = (mint(&world, Hint::Low, None), mint(&world, Hint::Low, None));
        let (zh, en) =
            (heard(&world, &one, Language::Chinese), heard(&world, &one, Language::English));
        assert_ne!(zh, en, "by chance once in 100 000");
        let wide = || zh.chars().map(|digit| char::from_u32(u32::from(digit) + 0xFEE0).unwrap());
        let answer = match case {
            "picture" => read(&world, &one),
            "zh" => zh.clone(),
            "en" => en.clone(),
            "wide digits" => wide().collect(),
            "wrong letters" => "....".to_owned(),
            "wrong digits" => {
                let other = |taken: &String| **taken != *zh && **taken != *en;
                (0..3).map(|it| format!("1234{it}")).find(other).unwrap()
            }
            "another's digits" => heard(&world, &other, Language::Chinese),
            "another's picture" => read(&world, &other),
            _ => world.verifier.named_clip("shop", &one.id[..60], Language::Chinese).text,
        };
        assert_eq!(give(&world, &one.id, &answer, None).await, expected, "{case}");
        for answer in [read(&world, &one), zh, en] {
            assert_eq!(give(&world, &one.id, &answer, None).await, ENDED, "after {case}");
        }
    }
}

#[tokio::test]
async fn digits_are_no_answer_where_no_audio_was_offered() {
    let world = world(WIDE);
    let ask =
        Ask { tenant: "shop", purpose: None, address: None, hint: Hint::Low, wish: Kind::Image };
    let silent = world.verifier.ask_challenge(&ask).unwrap();
    assert!(world.verifier.minted_clip(&silent.minted, Language::English).is_none());
    // The very digits that it would have.
    let minted = silent.minted.with_audio(true);
    let digits = world.verifier.minted_clip(&minted, Language::English).unwrap().text;
    assert_eq!(give(&world, &silent.id, &digits, None).await, WRONG);

    let work = Ask { wish: Kind::Work(Version::Two), ..ask };
    let work = world.verifier.ask_challenge(&work).unwrap();
    let work = world.verifier.with_audio("shop", work);
    assert!(!work.minted.audio, "work is not spoken");
}

#[tokio::test]
async fn the_highest_step_has_no_audio() {
    let mut world = world(WIDE);
    let limits = crate::domain::risk::Counts { wrong: 8, asked: 400, prefix: 4000 };
    let challenges = Challenges { limits, ..Challenges::default() };
    world.verifier.policy = Arc::new(Policy { challenges, ..Policy::default() });
    assert!(mint(&world, Hint::High, None).minted.has_audio(), "level 2");
    for wrong in 0..6 {
        let minting = mint(&world, Hint::Low, Some(HOME));
        assert_eq!(minting.minted.has_audio(), minting.minted.level != Level::More, "{wrong}");
        assert_eq!(give(&world, &minting.id, "....", Some(HOME)).await, WRONG);
    }
    let minting = mint(&world, Hint::Low, Some(HOME));
    assert_eq!((minting.minted.level, minting.minted.has_audio()), (Level::More, false));
}

#[tokio::test]
async fn no_bit_of_a_spoken_challenges_seal_can_be_changed() {
    let world = world(WIDE);
    let minting = mint(&world, Hint::Low, None);
    let digits = heard(&world, &minting, Language::English);
    let sealed = URL_SAFE_NO_PAD.decode(minting.id.strip_prefix("shop~").unwrap()).unwrap();
    for (at, bit) in (0..sealed.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut bent = sealed.clone();
        bent[at] ^= 1 << bit;
        let id = format!("shop~{}", URL_SAFE_NO_PAD.encode(bent));
        assert!(world.verifier.open_challenge(&id).is_none());
        assert_eq!(give(&world, &id, &digits, None).await, ENDED, "byte {at} bit {bit}");
    }
    assert_eq!(give(&world, &minting.id, &digits, None).await, Ok(()));
}

#[tokio::test]
async fn a_spoken_challenge_ends_to_the_millisecond_and_is_used_once_at_once() {
    for (early, expected) in [(1, Ok(())), (0, ENDED)] {
        let world = world(WIDE);
        let minting = mint(&world, Hint::Low, Some(HOME));
        let digits = heard(&world, &minting, Language::Chinese);
        world.clock.advance(TTL - early);
        assert_eq!(give(&world, &minting.id, &digits, Some(HOME)).await, expected, "{early}");
    }
    // Picture and clip answered at once, by many.
    let mut world = world(WIDE);
    let minting = mint(&world, Hint::Low, None);
    let answers = [read(&world, &minting), heard(&world, &minting, Language::English)];
    world.store.set_stumbling(Some(7));
    let mut tasks = tokio::task::JoinSet::new();
    for (number, answer) in (0..200).zip(answers.iter().cycle()) {
        let answered = world.verifier.answered(&reply("shop", &minting.id), answer.clone());
        let verifier = world.verifier.clone();
        let ask = StartRequest { answered: Some(answered), ..request(number) };
        tasks.spawn(async move { verifier.start(ask).await });
    }
    let outcomes = tasks.join_all().await;
    let ok = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(_)))).count();
    assert!(ok <= 1 && world.messages() <= 1, "{ok}");
}

#[tokio::test]
async fn a_named_challenge_is_read_or_heard_in_its_window_and_the_next_and_once() {
    let world = world(WIDE);
    let clip = |name: &str, language| world.verifier.named_clip("shop", name, language).text;
    let picture = |name: &str| world.verifier.named_picture("shop", name, Level::Plain).text;
    for language in Language::ALL {
        let name = format!("heard-{language:?}");
        let (digits, text) = (clip(&name, language), picture(&name));
        assert_eq!(give_named(&world, &name, &digits).await, Ok(()));
        assert_eq!(give_named(&world, &name, &digits).await, ENDED);
        assert_eq!(give_named(&world, &name, &text).await, ENDED, "the picture is spent, too");
    }
    let (digits, text) = (clip("read", Language::English), picture("read"));
    assert_eq!(give_named(&world, "read", &text).await, Ok(()));
    assert_eq!(give_named(&world, "read", &digits).await, ENDED, "the clip is spent, too");

    let digits = clip("wrong", Language::English);
    assert_eq!(give_named(&world, "wrong", "....").await, WRONG);
    assert_eq!(give_named(&world, "wrong", &digits).await, ENDED);
    assert_eq!(give_named(&world, "swap", &clip("other", Language::English)).await, WRONG);

    let late = ["next", "late", "later"].map(|name| (name, clip(name, Language::Chinese)));
    for (name, digits) in late {
        world.clock.advance(WINDOW);
        let expected = if name == "next" { Ok(()) } else { ENDED };
        assert_eq!(give_named(&world, name, &digits).await, expected, "{name}");
    }
}

#[tokio::test]
async fn an_address_answers_by_ear_a_few_times_and_by_eye_as_before() {
    let world = world(Audio { answers: 3, clips: 100 });
    let listen = |from: &str| world.verifier.listen(Some(from.parse().unwrap()));
    let spare = mint(&world, Hint::Low, Some(HOME));
    let other = mint(&world, Hint::Low, Some(HOME));
    for number in 0..3 {
        let minting = mint(&world, Hint::Low, Some(HOME));
        assert_eq!(listen(HOME), Ok(()));
        let digits = heard(&world, &minting, Language::English);
        // Right ones count like wrong ones.
        let (answer, expected) = if number == 1 { ("00 000", WRONG) } else { (&*digits, Ok(())) };
        assert_eq!(give(&world, &minting.id, answer, Some(HOME)).await, expected, "{number}");
    }
    let digits = heard(&world, &spare, Language::English);
    let held = give(&world, &spare.id, &digits, Some(HOME)).await;
    let Err(Refusal::Throttled { retry_at, limit: "audio" }) = held else {
        panic!("a fourth answer was judged: {held:?}")
    };
    let refused = Err(Refusal::Throttled { retry_at, limit: "audio" });
    assert_eq!(listen(HOME), refused, "nobody listens for nothing");
    // It was not judged, so nothing is spent; and who looks is not concerned.
    assert_eq!(give(&world, &spare.id, &read(&world, &spare), Some(HOME)).await, Ok(()));
    // Nor is another address, or a server, of which nothing is counted.
    let away = mint(&world, Hint::Low, Some(AWAY));
    let digits = heard(&world, &away, Language::Chinese);
    assert_eq!(listen(AWAY), Ok(()));
    assert_eq!(give(&world, &away.id, &digits, Some(AWAY)).await, Ok(()));
    let digits = heard(&world, &other, Language::Chinese);
    assert_eq!(give(&world, &other.id, &digits, None).await, Ok(()));
    world.clock.advance(retry_at - world.clock.now());
    assert_eq!(listen(HOME), Ok(()));
    let later = mint(&world, Hint::Low, Some(HOME));
    let digits = heard(&world, &later, Language::Chinese);
    assert_eq!(give(&world, &later.id, &digits, Some(HOME)).await, Ok(()));
}

#[tokio::test]
async fn an_address_fetches_so_many_clips_and_no_more() {
    let world = world(Audio { answers: 3, clips: 7 });
    let address = HOME.parse().unwrap();
    for _ in 0..7 {
        assert_eq!(world.verifier.listen(Some(address)), Ok(()));
    }
    let refused = world.verifier.listen(Some(address));
    let Err(Refusal::Throttled { retry_at, limit: "audio" }) = refused else { panic!() };
    assert_eq!(world.verifier.listen(Some(AWAY.parse().unwrap())), Ok(()));
    world.clock.advance(retry_at - world.clock.now());
    assert_eq!(world.verifier.listen(Some(address)), Ok(()));
}

#[tokio::test]
async fn the_timeline_says_what_was_listened_to_and_vouching_counts_once() {
    let world = world(Audio { answers: 1, clips: 7 });
    let from = Some(HOME.parse().unwrap());
    let ask = |wish| Ask { tenant: "shop", purpose: None, address: from, hint: Hint::High, wish };
    let minted =
        |wish| world.verifier.with_audio("shop", world.verifier.ask_challenge(&ask(wish)).unwrap());
    let alone = minted(Kind::Image);
    let both = minted(Kind::WorkThenImage(Version::Two));

    let payload = super::binding::answer(&world, &both);
    let reply = Reply { tenant: "shop", id: None, purpose: "login", address: from };
    let digits = heard(&world, &both, Language::English);
    let vouched = world.verifier.pass(&reply, payload, Some(digits)).await.unwrap().unwrap();
    let vouched = world.verifier.answered(&reply, vouched);
    let asker = Asker { address: from, ..request(1).asker };
    let digits = heard(&world, &alone, Language::English);
    // From elsewhere: this address answered by ear once, and may not again.
    let reply = Reply { id: Some(&alone.id), address: None, ..reply };
    let listened = world.verifier.answered(&reply, digits);
    let starts =
        [(1, asker, vouched, "proof-of-work-and-audio"), (2, request(2).asker, listened, "audio")];
    for (number, asker, answered, how) in starts {
        let ask = StartRequest { asker, answered: Some(answered), ..request(number) };
        let view = world.verifier.start(ask).await.unwrap().unwrap();
        let look = world.verifier.timeline("shop", view.id).await.unwrap().unwrap();
        let first = &look.events[0];
        assert_eq!((first.event, first.class), ("challenge_passed", Some(how)));
        assert_eq!(first.code.as_deref(), Some("caller_hint"));
    }
}
