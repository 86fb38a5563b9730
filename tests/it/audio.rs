//! The audio challenge at both doors, over real sockets: fetched, answered, spent, held back.

use std::collections::BTreeSet;

use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::world::{USUAL, World, body, mobile};

const SERIES: u32 = 350;
const BROWSER: &str = "pk_shop_public";
const BYTES: usize = 39_244;

/// A challenge with what a person would read and hear.
struct Spoken {
    id: String,
    url: String,
    read: String,
    heard: [String; 2],
}

async fn spoken(world: &World) -> Spoken {
    let minted = world.post(BROWSER, "/v1/challenges", &json!({"kind": "image"})).send().await;
    let minted = body(minted.unwrap()).await;
    assert_eq!(minted["audio_length"], 5, "{minted}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let id = text(&minted["id"]);
    let answers = body(world.get(&format!("/dev/challenges/{id}")).send().await.unwrap()).await;
    let heard = ["zh", "en"].map(|language| text(&answers["audio"][language]));
    Spoken { id, url: text(&minted["audio_url"]), read: text(&answers["answer"]), heard }
}

async fn start(world: &World, number: u32, id: &str, answer: &str) -> Response {
    let challenge = json!({"id": id, "answer": answer});
    let wish = json!({"phone": format!("+86{}", mobile(SERIES, number)), "challenge": challenge});
    world.post(BROWSER, "/v1/verifications", &wish).send().await.unwrap()
}

async fn wav(answer: Response) -> Vec<u8> {
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "audio/wav");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    let file = answer.bytes().await.unwrap().to_vec();
    assert!(file.starts_with(b"RIFF"));
    assert_eq!(file.len(), BYTES);
    file
}

#[tokio::test]
async fn a_person_listens_and_proves_a_phone() {
    let world = World::start(USUAL).await;
    for (number, answer) in [(1, 0), (2, 1)] {
        let spoken = spoken(&world).await;
        let clip = |language: &str| {
            let url = format!("{}?locale={language}", spoken.url);
            async { wav(world.client.get(url).send().await.unwrap()).await }
        };
        let (zh, en) = (clip("zh").await, clip("en").await);
        assert_ne!(zh, en);
        assert_eq!(zh, clip("zh").await, "the same every time");
        // As ALTCHA's widget asks, and as a browser says.
        assert_eq!(
            en,
            wav(world.client.get(format!("{}?language=en", spoken.url)).send().await.unwrap())
                .await
        );
        let accepts = world.client.get(&spoken.url).header(header::ACCEPT_LANGUAGE, "en-GB,en");
        assert_eq!(en, wav(accepts.send().await.unwrap()).await);

        let digits = &spoken.heard[answer];
        let started = start(&world, number, &spoken.id, digits).await;
        assert_eq!(started.status(), StatusCode::CREATED);
        let started = body(started).await;
        world.code(&format!("+86{}", mobile(SERIES, number))).await;
        for answer in [&spoken.read, digits] {
            let again = start(&world, number + 10, &spoken.id, answer).await;
            assert_eq!(again.status(), StatusCode::UNPROCESSABLE_ENTITY, "it is spent");
        }
        let path = format!("/v1/verifications/{}/timeline", started["id"].as_str().unwrap());
        let story = world.get(&path).bearer_auth("sk_shop_secret").send().await.unwrap();
        let story = body(story).await;
        let passed = &story["events"][0];
        assert_eq!(
            (&passed["event"], &passed["class"]),
            (&json!("challenge_passed"), &json!("audio"))
        );
    }
    let metrics = world.get("/metrics").send().await.unwrap().text().await.unwrap();
    let line = "countersign_clips_total{locale=\"zh\",outcome=\"spoken\"} 4";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn looking_at_a_clip_in_any_way_spends_nothing() {
    let world = World::start(USUAL).await;
    let spoken = spoken(&world).await;
    let head = world.client.head(&spoken.url).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()[header::CONTENT_TYPE], "audio/wav");
    for (name, value) in [("Purpose", "prefetch"), ("Sec-Purpose", "prefetch;prerender")] {
        wav(world.client.get(&spoken.url).header(name, value).send().await.unwrap()).await;
    }
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let refused = world.client.request(method.clone(), &spoken.url).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
    }
    let whole = wav(world.client.get(&spoken.url).send().await.unwrap()).await;
    for (range, status, expected) in [
        ("bytes=0-1", 206, &whole[..2]),
        ("bytes=39000-", 206, &whole[39_000..]),
        ("bytes=-100", 206, &whole[BYTES - 100..]),
        ("bytes=0-1,4-5", 200, &whole[..]),
        ("bytes=39244-", 416, &[]),
    ] {
        let part = world.client.get(&spoken.url).header(header::RANGE, range).send().await.unwrap();
        assert_eq!(part.status().as_u16(), status, "{range}");
        assert_eq!(part.bytes().await.unwrap(), expected, "{range}");
    }
    let started = start(&world, 3, &spoken.id, &spoken.heard[1]).await;
    assert_eq!(started.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn only_what_has_audio_is_spoken() {
    let config = USUAL.replacen("origins", "challenge_kinds = [\"image\"]\norigins", 1);
    let world = World::start(&format!("[seed_api]\naudio = false\n{config}")).await;
    let minted = world.post(BROWSER, "/v1/challenges", &json!({})).send().await.unwrap();
    let minted = body(minted).await;
    assert!(minted["audio_url"].is_null() && minted["audio_length"].is_null(), "{minted}");
    let id = minted["id"].as_str().unwrap();
    let path = format!("/v1/challenges/{id}/audio");
    assert_eq!(world.get(&path).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(world.get("/audio_codes/u/").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let answers = body(world.get(&format!("/dev/challenges/{id}")).send().await.unwrap()).await;
    assert!(answers["audio"]["en"].is_null() && answers["answer"].is_string());

    let world = World::start(USUAL).await;
    let work = json!({"kind": "proof-of-work"});
    let work = body(world.post(BROWSER, "/v1/challenges", &work).send().await.unwrap()).await;
    assert!(work["audio_url"].is_null());
    let bad = [work["id"].as_str().unwrap(), "shop~", "shop~AAAA", "nobody~AAAA", "%FF"];
    for id in bad {
        let answer = world.get(&format!("/v1/challenges/{id}/audio")).send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 400 | 404), "{id}: {}", answer.status());
    }
    let alone = world.post(BROWSER, "/v1/challenges", &json!({"kind": "audio"})).send().await;
    assert_eq!(alone.unwrap().status(), StatusCode::BAD_REQUEST, "it comes with a picture");
    for bad in ["/audio_codes/a%20b/", "/audio_codes/u/?locale=en&locale=zh"] {
        assert_eq!(world.get(bad).send().await.unwrap().status(), StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn the_seeds_door_takes_what_was_heard_in_place_of_what_was_read() {
    let world = World::start(USUAL).await;
    let send = |number: u32, name: &str, answer: String| {
        let phone = mobile(SERIES, number);
        let query = format!("image_code_id={name}&image_code={answer}");
        let asked = world.get(&format!("/sms_codes/{phone}/?{query}"));
        async { body(asked.send().await.unwrap()).await["code"].as_str().unwrap().to_owned() }
    };
    let english = wav(world.get("/audio_codes/one/?locale=en").send().await.unwrap()).await;
    let chinese = wav(world.get("/audio_codes/one").send().await.unwrap()).await;
    assert_ne!(english, chinese);
    let answers = body(world.get("/dev/image_codes/one").send().await.unwrap()).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    assert_eq!(send(21, "two", text(&answers["audio"]["en"])).await, "4001", "another's");
    assert_eq!(send(22, "one", text(&answers["audio"]["en"])).await, "0");
    assert_eq!(send(23, "one", text(&answers["answer"])).await, "4001", "it is spent");
    assert_eq!(send(24, "one", text(&answers["audio"]["zh"])).await, "4001", "it is spent");

    let world = World::start(&format!("[seed_api]\naudio = false\n{USUAL}")).await;
    let answers = body(world.get("/dev/image_codes/one").send().await.unwrap()).await;
    let query =
        format!("image_code_id=one&image_code={}", answers["audio"]["en"].as_str().unwrap());
    let refused = world.get(&format!("/sms_codes/{}/?{query}", mobile(SERIES, 25)));
    assert_eq!(body(refused.send().await.unwrap()).await["code"], "4001", "nobody heard it here");
}

#[tokio::test]
async fn who_listens_is_held_back_sooner_than_who_looks() {
    let config = "[challenge]\nexempt = []\naudio_answers_per_10_minutes = 2\n\
                  audio_clips_per_10_minutes = 5\n";
    let world = World::start(&format!("{config}{USUAL}")).await;
    let mut waiting = spoken(&world).await;
    for number in [31, 32] {
        let spoken = spoken(&world).await;
        wav(world.client.get(&spoken.url).send().await.unwrap()).await;
        let started = start(&world, number, &spoken.id, &spoken.heard[0]).await;
        assert_eq!(started.status(), StatusCode::CREATED);
    }
    let held = start(&world, 33, &waiting.id, &waiting.heard[1]).await;
    assert_eq!(held.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(held.headers().contains_key(header::RETRY_AFTER));
    let held = body(held).await;
    assert_eq!((&held["limit"], held["retry_at"].is_string()), (&json!("audio"), true));
    let clip = world.client.get(&waiting.url).send().await.unwrap();
    assert_eq!(clip.status(), StatusCode::TOO_MANY_REQUESTS, "who may not answer hears nothing");
    assert_eq!(body(clip).await["limit"], "audio");
    let picture = start(&world, 34, &waiting.id, &waiting.read).await;
    assert_eq!(picture.status(), StatusCode::CREATED, "who looks is not concerned");

    let world = World::start(&format!("{config}{USUAL}")).await;
    waiting = spoken(&world).await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(world.client.get(&waiting.url).send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
}

#[tokio::test]
async fn a_flood_of_clips_stores_nothing_and_all_are_of_one_size() {
    let world = World::start(USUAL).await;
    let mut digits = BTreeSet::new();
    for number in 0..40 {
        let name = format!("flood-{number}");
        let clip = world.get(&format!("/audio_codes/{name}/?locale=en")).send().await.unwrap();
        digits.insert(wav(clip).await);
    }
    assert_eq!(digits.len(), 40, "no two are alike");
    let inbox = body(world.get("/dev/messages").send().await.unwrap()).await;
    assert_eq!(inbox, json!([]));
}
