//! Proof of work, and how much one address may ask: over HTTP, as programs and widgets do it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::domain::altcha;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::world::{USUAL, World, body, mobile};

const SERIES: u32 = 330;
const BROWSER: &str = "pk_shop_public";
const SHOP: &str = "sk_shop_secret";
const CHALLENGES: &str = "/v1/challenges";
const WIDGET: &str = "/v1/challenges/altcha?key=pk_shop_public";
/// Work that a test may do, and addresses that a proxy of ours names.
const LIGHT: &str =
    "trusted_proxies = [\"127.0.0.0/8\"]\n[challenge]\nwork_tries = 40\nexempt = []\n";

fn config(lines: &str) -> String {
    format!("{LIGHT}{lines}{USUAL}")
}

/// Does the work, as a program would.
fn solve(work: &Value) -> String {
    let text = |name: &str| work["parameters"][name].as_str().unwrap().to_owned();
    let [nonce, salt] = ["nonce", "salt"].map(|name| hex::decode(text(name)).unwrap());
    let cost = work["parameters"]["cost"].as_u64().unwrap();
    let cost = u32::try_from(cost).unwrap().try_into().unwrap();
    let (counter, key) = (0..1_000_000)
        .map(|counter| (counter, altcha::derive(cost, &salt, &nonce, counter)))
        .find(|(_, key)| hex::encode(key).starts_with(&text("keyPrefix")))
        .unwrap();
    let solution = json!({"counter": counter, "derivedKey": hex::encode(key), "time": 7.5});
    STANDARD.encode(json!({"challenge": work, "solution": solution}).to_string())
}

fn kind(problem: &Value) -> &str {
    problem["type"].as_str().unwrap().rsplit('/').next().unwrap()
}

async fn refused(answer: Response, status: u16, word: &str) -> Value {
    let given = answer.status().as_u16();
    let problem = body(answer).await;
    assert_eq!((given, kind(&problem)), (status, word), "{problem}");
    problem
}

async fn start(world: &World, key: &str, wish: &Value) -> Response {
    world.post(key, "/v1/verifications", wish).send().await.unwrap()
}

#[tokio::test]
async fn a_machine_works_and_a_phone_is_proved() {
    let world = World::start(&config("")).await;
    let asked = json!({"kind": "proof-of-work", "purpose": "pay"});
    let minted = world.post(BROWSER, CHALLENGES, &asked).send().await.unwrap();
    assert_eq!(minted.status(), StatusCode::CREATED);
    let minted = body(minted).await;
    assert_eq!(minted["kind"], "proof-of-work");
    assert!(minted["image_url"].is_null() && minted["expires_at"].is_string(), "{minted}");
    let answer = solve(&minted["altcha"]);
    let phone = format!("+86{}", mobile(SERIES, 1));
    let challenge = json!({"id": minted["id"], "answer": answer});
    let wish = |purpose: &str, given: &Value| -> Value {
        let mut wish = json!({"phone": phone, "challenge": given});
        wish["purpose"] = json!(purpose);
        wish
    };
    let other = start(&world, BROWSER, &wish("login", &challenge)).await;
    refused(other, 422, "challenge-expired").await;
    let foreign = json!({"id": minted["id"], "answer": answer});
    let foreign = json!({"phone": phone, "challenge": foreign});
    refused(start(&world, "sk_bank_secret", &foreign).await, 422, "challenge-expired").await;
    let from_afar = world.post(BROWSER, "/v1/verifications", &wish("pay", &challenge));
    let from_afar = from_afar.header("x-forwarded-for", "203.0.113.7").send().await.unwrap();
    refused(from_afar, 422, "challenge-expired").await;
    let started = start(&world, BROWSER, &wish("pay", &challenge)).await;
    assert_eq!(started.status(), StatusCode::CREATED);
    let id = body(started).await["id"].as_str().unwrap().to_owned();
    let again = start(&world, BROWSER, &wish("pay", &json!({"answer": answer}))).await;
    refused(again, 422, "challenge-expired").await;
    let code = world.code(&phone).await;
    let check = format!("/v1/verifications/{id}/check");
    let checked = world.post(BROWSER, &check, &json!({"code": code})).send().await.unwrap();
    assert_eq!(body(checked).await["status"], "approved");
    let timeline = world.get(&format!("/v1/verifications/{id}/timeline")).bearer_auth(SHOP);
    let timeline = body(timeline.send().await.unwrap()).await;
    let first = &timeline["events"][0];
    assert_eq!(first["event"], "challenge_passed", "{timeline}");
    assert_eq!((&first["class"], &first["code"]), (&json!("proof-of-work"), &json!("calm")));
}

#[tokio::test]
async fn an_empty_body_asks_for_a_picture_as_ever_and_nonsense_is_refused() {
    let world = World::start(&config("")).await;
    let bare = world.client.post(world.url(CHALLENGES)).bearer_auth(BROWSER);
    for request in [bare, world.post(BROWSER, CHALLENGES, &json!({}))] {
        let minted = body(request.send().await.unwrap()).await;
        assert_eq!(minted["kind"], "image");
        let members: Vec<_> = minted.as_object().unwrap().keys().cloned().collect();
        let audio = ["audio_length", "audio_url"].map(str::to_owned);
        let (with, without): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| audio.contains(member));
        assert_eq!(without, ["expires_at", "id", "image_url", "instruction", "kind"]);
        assert_eq!(with, audio, "what is added by default");
    }
    let cases = [
        (BROWSER, json!({"kind": "riddle"}), 400, "invalid-request"),
        (BROWSER, json!({"kind": "proof-of-work", "version": 1}), 400, "invalid-request"),
        (BROWSER, json!({"kind": "image", "else": 1}), 400, "invalid-request"),
        (BROWSER, json!({"purpose": "made-up"}), 400, "purpose-not-allowed"),
        (BROWSER, json!({"risk": "low"}), 400, "invalid-request"),
        ("pk_nobody", json!({}), 401, "unauthorized"),
    ];
    for (key, asked, status, word) in cases {
        let answer = world.post(key, CHALLENGES, &asked).send().await.unwrap();
        refused(answer, status, word).await;
    }
    let high = json!({"kind": "proof-of-work", "risk": "high"});
    let minted = body(world.post(SHOP, CHALLENGES, &high).send().await.unwrap()).await;
    assert_eq!(minted["kind"], "image", "the ladder asks for more than was wished for");
}

#[tokio::test]
async fn the_widgets_url_gives_work_and_its_payload_is_an_answer() {
    let world = World::start(&config("")).await;
    for (number, request) in
        (10..).zip([world.get(WIDGET), world.client.post(world.url(WIDGET)).body("{}")])
    {
        let given = request.send().await.unwrap();
        assert_eq!(given.status(), StatusCode::OK);
        assert_eq!(given.headers()["content-type"], "application/json");
        let work = body(given).await;
        assert!(work["codeChallenge"].is_null(), "{work}");
        let wish = json!({"phone": mobile(SERIES, number), "challenge": {"answer": solve(&work)}});
        assert_eq!(start(&world, BROWSER, &wish).await.status(), StatusCode::CREATED);
        assert_eq!(start(&world, BROWSER, &wish).await.status(), 422);
    }
    let secret = world.get("/v1/challenges/altcha?key=sk_shop_secret").send().await.unwrap();
    refused(secret, 403, "forbidden").await;
    refused(world.get("/v1/challenges/altcha?key=x").send().await.unwrap(), 401, "unauthorized")
        .await;
    refused(world.get("/v1/challenges/altcha").send().await.unwrap(), 400, "invalid-request").await;
    let page = world.get(WIDGET).header("origin", "https://evil.example").send().await.unwrap();
    refused(page, 403, "forbidden").await;
}

#[tokio::test]
async fn an_address_climbs_the_ladder_and_is_refused_at_its_end_alone() {
    let world = World::start(&config("asked_per_10_minutes = 16\n")).await;
    let ask = async |address: &str| {
        let wish = json!({"kind": "proof-of-work"});
        let request = world.post(BROWSER, CHALLENGES, &wish).header("x-forwarded-for", address);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), body(answer).await)
    };
    for asked in 0..16 {
        let (status, minted) = ask("203.0.113.7").await;
        let expected = if asked < 4 { "proof-of-work" } else { "image" };
        assert_eq!((status, &minted["kind"]), (201, &json!(expected)), "{asked}");
    }
    let (status, problem) = ask("203.0.113.7").await;
    assert_eq!((status, kind(&problem)), (429, "throttled"), "{problem}");
    assert_eq!(problem["limit"], "challenges");
    assert!(problem["retry_at"].is_string());
    // The seed's pictures are counted with them; others are not concerned.
    let picture = |address| world.get("/image_codes/one/").header("x-forwarded-for", address);
    refused(picture("203.0.113.7").send().await.unwrap(), 429, "throttled").await;
    assert_eq!(picture("198.51.100.1").send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(ask("203.0.113.8").await.0, 201);
    let metrics = world.get("/metrics").send().await.unwrap().text().await.unwrap();
    let counted = |step: &str, reason: &str| {
        let line = |line: &&str| {
            line.starts_with("countersign_challenge_steps_total{")
                && line.contains(&format!("step=\"{step}\""))
                && line.contains(&format!("reason=\"{reason}\""))
        };
        metrics
            .lines()
            .find(line)
            .unwrap_or_else(|| panic!("{step} {reason}: {metrics}"))
            .to_owned()
    };
    assert!(counted("refuse", "address_volume").ends_with(" 2"));
    assert!(counted("picture_3", "address_volume").ends_with(" 4"));
}

#[tokio::test]
async fn a_tenant_that_asks_when_risky_lets_calm_starts_through() {
    let risky = "[[tenants]]\nid = \"club\"\nsecret_key = \"sk_club_secret\"\n\
        publishable_key = \"pk_club_public\"\nchallenge = \"when-risky\"\n\
        challenge_kinds = [\"proof-of-work\"]\n";
    let world = World::start(&format!("{}{risky}", config("asked_per_10_minutes = 16\n"))).await;
    let phone = |number| json!({"phone": mobile(SERIES, number)});
    for (number, key) in [(20, "pk_club_public"), (21, "sk_club_secret"), (22, "pk_club_public")] {
        assert_eq!(start(&world, key, &phone(number)).await.status(), StatusCode::CREATED);
    }
    // Two of a browser's were counted, an eighth of the limit: now a machine has to work.
    let problem =
        refused(start(&world, "pk_club_public", &phone(23)).await, 403, "challenge-required");
    assert_eq!(problem.await["kind"], "proof-of-work");
    let mut hinted = phone(24);
    hinted["risk"] = json!("high");
    let problem =
        refused(start(&world, "sk_club_secret", &hinted).await, 403, "challenge-required");
    assert_eq!(problem.await["kind"], "image");
    refused(start(&world, "pk_club_public", &hinted).await, 400, "invalid-request").await;
    let minted = world.client.post(world.url(CHALLENGES)).bearer_auth("sk_club_secret");
    let minted = body(minted.send().await.unwrap()).await;
    assert_eq!(minted["kind"], "proof-of-work", "this tenant's first kind");
    hinted["challenge"] = json!({"id": minted["id"], "answer": solve(&minted["altcha"])});
    assert_eq!(start(&world, "sk_club_secret", &hinted).await.status(), StatusCode::CREATED);
}
