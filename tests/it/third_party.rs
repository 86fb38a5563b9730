//! Third parties' challenges through the door: the real binary, and a vendor on this machine that
//! answers as documented.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode as Status;
use axum::routing::post;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{USUAL, World, body, mobile};

const SERIES: u32 = 420;
const BROWSER: &str = "pk_club_public";
const SECRET: &str = "0x4AAAAAAA-canary-secret";
const HOME: &str = "203.0.113.7";

/// What the vendor was asked, in its forms.
type Asked = Arc<Mutex<Vec<String>>>;

/// A Turnstile that vouches for every token that begins with `good`, time and again.
struct Turnstile {
    address: SocketAddr,
    asked: Asked,
    /// Answers this instead, where there is something.
    instead: Arc<Mutex<Option<(Status, String)>>>,
    _serving: JoinSet<()>,
}

impl Turnstile {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, instead) = (Asked::default(), Arc::default());
        let parts = (Arc::clone(&asked), Arc::clone(&instead));
        let app = axum::Router::new().route("/v0/siteverify", post(verify)).with_state(parts);
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, asked, instead, _serving: serving }
    }

    fn says(&self, status: Status, body: &str) {
        *self.instead.lock().unwrap() = Some((status, body.to_owned()));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// A configuration whose tenant `club` takes this vendor's challenge alone.
    fn config(&self, more: &str, challenge: &str) -> String {
        format!(
            "trusted_proxies = [\"127.0.0.0/8\"]\n[challenge]\nexempt = []\n{challenge}\n\
             [[challenge.third_parties]]\nkind = \"turnstile\"\nbase_url = \"http://{}/v0\"\n\
             site_key = \"0x4AAAAAAA-site\"\nsecret_key = \"{SECRET}\"\n\
             hosts = [\"club.example\"]\n{more}\n{USUAL}\n[[tenants]]\nid = \"club\"\n\
             secret_key = \"sk_club_secret\"\npublishable_key = \"{BROWSER}\"\n\
             challenge_kinds = [\"turnstile\"]\n",
            self.address
        )
    }
}

type Parts = (Asked, Arc<Mutex<Option<(Status, String)>>>);

async fn verify(State((asked, instead)): State<Parts>, form: String) -> (Status, String) {
    asked.lock().unwrap().push(form.clone());
    if let Some(instead) = instead.lock().unwrap().clone() {
        return instead;
    }
    let said = if form.contains("response=good") {
        json!({"success": true, "error-codes": [], "hostname": "club.example",
            "action": "countersign", "challenge_ts": "2026-11-24T20:00:00Z"})
    } else {
        json!({"success": false, "error-codes": ["invalid-input-response"]})
    };
    (Status::OK, said.to_string())
}

async fn mint(world: &World, asked: &Value) -> Response {
    let request = world.post(BROWSER, "/v1/challenges", asked).header("x-forwarded-for", HOME);
    request.send().await.unwrap()
}

/// The id of a challenge of the vendor's.
async fn minted(world: &World) -> String {
    let minted = body(mint(world, &json!({})).await).await;
    assert_eq!(minted["kind"], "turnstile", "{minted}");
    minted["id"].as_str().unwrap().to_owned()
}

async fn start(world: &World, number: u32, id: &str, answer: &str) -> Response {
    let wish = json!({"phone": mobile(SERIES, number), "challenge": {"id": id, "answer": answer}});
    let request = world.post(BROWSER, "/v1/verifications", &wish).header("x-forwarded-for", HOME);
    request.send().await.unwrap()
}

async fn refused(answer: Response, status: u16, word: &str) -> Value {
    let given = answer.status().as_u16();
    let problem = body(answer).await;
    let kind = problem["type"].as_str().unwrap_or_default().rsplit('/').next().unwrap();
    assert_eq!((given, kind), (status, word), "{problem}");
    problem
}

async fn metric(world: &World, name: &str, labels: &[&str]) -> String {
    let text = world.get("/metrics").send().await.unwrap().text().await.unwrap();
    let wanted = |line: &&str| line.starts_with(name) && labels.iter().all(|it| line.contains(it));
    let found = text.lines().find(wanted);
    found.unwrap_or_else(|| panic!("{name} {labels:?} in\n{text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_passes_the_vendors_challenge_and_gets_one_message_for_it() {
    let vendor = Turnstile::start().await;
    let config = vendor.config("", "") + "[log]\nfilter = \"trace\"\n";
    let world = World::start(&config).await;
    let minted = body(mint(&world, &json!({"purpose": "login"})).await).await;
    let widget = json!({"site_key": "0x4AAAAAAA-site", "action": "countersign"});
    assert_eq!((&minted["kind"], &minted["third_party"]), (&json!("turnstile"), &widget));
    assert!(minted["image_url"].is_null() && minted["altcha"].is_null(), "{minted}");
    let id = minted["id"].as_str().unwrap();

    refused(start(&world, 1, id, "bad-canary-1").await, 422, "challenge-wrong").await;
    refused(start(&world, 1, id, "not a token").await, 422, "challenge-wrong").await;
    let started = start(&world, 1, id, "good-canary-2").await;
    assert_eq!(started.status(), StatusCode::CREATED);
    let started = body(started).await["id"].as_str().unwrap().to_owned();
    let asked = vendor.asked();
    assert_eq!(asked.len(), 2, "what is no token is not asked about");
    let form = format!("secret={SECRET}&response=good-canary-2&remoteip={HOME}");
    assert_eq!(asked[1], form);

    // Whatever the vendor remembers, one token is one message: with this challenge and another.
    let other = body(mint(&world, &json!({})).await).await["id"].as_str().unwrap().to_owned();
    for id in [id, &other] {
        refused(start(&world, 2, id, "good-canary-2").await, 422, "challenge-expired").await;
    }
    assert_eq!(vendor.asked().len(), 2);

    let path = format!("/v1/verifications/{started}/timeline");
    let timeline = world.get(&path).bearer_auth("sk_club_secret").send().await.unwrap();
    let timeline = body(timeline).await;
    let first = &timeline["events"][0];
    assert_eq!(
        (&first["event"], &first["class"]),
        (&json!("challenge_passed"), &json!("turnstile"))
    );
    assert_eq!(first["code"], "calm");

    let answers = "countersign_challenge_answers_total{";
    for (outcome, count) in [("passed", " 1"), ("wrong", " 2"), ("expired", " 2")] {
        let labels = ["kind=\"turnstile\"", &format!("outcome=\"{outcome}\"")];
        assert!(metric(&world, answers, &labels).await.ends_with(count), "{outcome}");
    }
    let calls = "countersign_third_party_calls_total{";
    let refusals = metric(&world, calls, &["outcome=\"refused\"", "reason=\"wrong-token\""]).await;
    assert!(refusals.ends_with(" 1"), "{refusals}");
    let log = world.log();
    for canary in ["canary-1", "canary-2", "canary-secret"] {
        assert!(!log.contains(canary), "{canary} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_for_many_phones_at_once_is_one_message() {
    let vendor = Turnstile::start().await;
    let world = Arc::new(World::start(&vendor.config("", "")).await);
    let id = minted(&world).await;
    let mut starts = JoinSet::new();
    // Fewer than the wrong answers that an address may give at once.
    for number in 100..130 {
        let (world, id) = (Arc::clone(&world), id.clone());
        starts.spawn(async move { start(&world, number, &id, "good-1").await.status() });
    }
    let statuses = starts.join_all().await;
    let created = statuses.iter().filter(|status| **status == StatusCode::CREATED).count();
    assert_eq!(created, 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 422].contains(&status.as_u16())), "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_is_down_stops_messages_and_the_operator_may_put_a_picture_there() {
    for (when_down, instead) in [("refuse", None), ("image", Some("image"))] {
        let vendor = Turnstile::start().await;
        let more = format!("when_down = \"{when_down}\"");
        let world = World::start(&vendor.config(&more, "")).await;
        let id = minted(&world).await;
        let early = mint(&world, &json!({"kind": "image"})).await;
        refused(early, 400, "invalid-request").await;
        vendor.says(Status::SERVICE_UNAVAILABLE, "<html>good</html>");
        let (status, word) =
            if instead.is_some() { (403, "challenge-required") } else { (503, "third-party-down") };
        for _ in 0..4 {
            let answer = start(&world, 200, &id, "good-1").await;
            assert_eq!(answer.headers().contains_key("retry-after"), instead.is_none());
            let problem = refused(answer, status, word).await;
            assert_eq!(problem["kind"].as_str(), instead);
        }
        assert_eq!(vendor.asked().len(), 3, "after three failures it is left alone for a while");
        // A pause is short on a busy machine: whoever tries makes it begin anew.
        let keep_down = async || drop(start(&world, 200, &id, "good-1").await);
        if instead.is_none() {
            keep_down().await;
            refused(mint(&world, &json!({})).await, 503, "third-party-down").await;
            refused(mint(&world, &json!({"kind": "image"})).await, 400, "invalid-request").await;
            continue;
        }
        for wish in [json!({}), json!({"kind": "turnstile"}), json!({"kind": "image"})] {
            keep_down().await;
            let minted = body(mint(&world, &wish).await).await;
            assert_eq!(minted["kind"], "image", "{minted}");
            assert!(minted["third_party"].is_null() && minted["image_url"].is_string());
            let id = minted["id"].as_str().unwrap();
            let shown = world.get(&format!("/dev/challenges/{id}")).send().await.unwrap();
            let text = body(shown).await["answer"].as_str().unwrap().to_owned();
            let number = 201 + u32::try_from(wish.to_string().len()).unwrap();
            assert_eq!(start(&world, number, id, &text).await.status(), StatusCode::CREATED);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_with_too_many_refused_tokens_is_held_and_costs_no_calls() {
    let vendor = Turnstile::start().await;
    let world = World::start(&vendor.config("", "wrong_per_10_minutes = 8")).await;
    let id = minted(&world).await;
    for _ in 0..8 {
        refused(start(&world, 300, &id, "bad-1").await, 422, "challenge-wrong").await;
    }
    for _ in 0..3 {
        let held = refused(start(&world, 300, &id, "good-1").await, 429, "throttled").await;
        assert_eq!(held["limit"], "challenges");
    }
    assert_eq!(vendor.asked().len(), 8);
    assert!(mint(&world, &json!({})).await.status() == StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_start_gets_its_answer_while_the_vendor_is_down() {
    let vendor = Turnstile::start().await;
    let world = World::start(&vendor.config("", "")).await;
    let id = minted(&world).await;
    let wish = json!({"phone": mobile(SERIES, 400), "challenge": {"id": id, "answer": "good-1"}});
    let start = || {
        let request = world.post(BROWSER, "/v1/verifications", &wish);
        request.header("x-forwarded-for", HOME).header("idempotency-key", "order-1").send()
    };
    let first = start().await.unwrap();
    assert_eq!(first.status(), StatusCode::CREATED);
    vendor.says(Status::INTERNAL_SERVER_ERROR, "");
    assert_eq!(body(start().await.unwrap()).await["id"], body(first).await["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_and_check_config_name_what_is_wrong() {
    let vendor = Turnstile::start().await;
    let mut world = World::start(&vendor.config("", "")).await;
    world.kill();
    let run = async |what: &'static str| {
        let mut command = world.command(&[what, "--config", "countersign.toml"]);
        let told = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = [told.stdout, told.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), told.status.success())
    };
    let (told, fine) = run("doctor").await;
    assert!(fine && told.contains("ok    third party turnstile: it knows the secret"), "{told}");
    vendor.says(Status::OK, r#"{"success":false,"error-codes":["invalid-input-secret"]}"#);
    let (told, fine) = run("doctor").await;
    assert!(!fine && told.contains("FAIL  third party turnstile: wrong-secret"), "{told}");
    assert!(told.contains("dash.cloudflare.com") && !told.contains(SECRET), "{told}");
    let (told, fine) = run("check-config").await;
    assert!(fine && told.contains("third party  turnstile (turnstile)"), "{told}");
    assert!(!told.contains(SECRET), "{told}");
    world.write_config(&vendor.config("hostnames = [\"a.example\"]", ""));
    let (told, fine) = run("check-config").await;
    let named = "challenge.third_parties[0].hostnames: there is no such setting";
    assert!(!fine && told.contains(named), "{told}");
    assert!(told.contains("did you mean challenge.third_parties[0].hosts?"), "{told}");
}
