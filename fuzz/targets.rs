//! Whatever comes in from outside, byte by byte, and what must hold for each of it.
//!
//! The fuzzer (`just fuzz`) searches these functions for inputs that break them; `./check` runs
//! the committed inputs and some thousand neighbours of each (`tests/it/corpus.rs`), so that what
//! was found once stays mended. A target is a name in [`ALL`], a folder in `fuzz/seeds` and three
//! lines in `fuzz/fuzz_targets`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign::captcha::Level;
use countersign::chance::SeededChance;
use countersign::clock::Clock;
use countersign::config::Config;
use countersign::domain::id::{DeliveryId, VerificationId};
use countersign::domain::minted::{Kind as Wish, Version};
use countersign::domain::outcome::About;
use countersign::domain::phone::{Phone, PhoneRules, Region};
use countersign::domain::policy::Policy;
use countersign::domain::risk::Hint;
use countersign::domain::third_party::{Vendor, Verdict};
use countersign::http::auth::{Demand, Offer, Tenant, Tenants};
use countersign::http::client_ip::{Peer, TrustedProxies};
use countersign::http::{Codes, Dev, Doors, Inner, SeedSettings, Settings, router};
use countersign::keys::{self, Keys};
use countersign::providers::kind::Parts;
use countersign::providers::simulated::Simulator;
use countersign::providers::{Provider, Providers, Pushed, transport};
use countersign::store::Store;
use countersign::store::memory::MemoryStore;
use countersign::third_party::{self, Member};
use countersign::verifier::{Answered, Ask, Given, Reply, Verifier};
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tower::ServiceExt;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 8] = [
    ("phone", phone),
    ("id", id),
    ("challenge", challenge),
    ("client_ip", client_ip),
    ("receipts", receipts),
    ("third_party", third_party),
    ("config", config),
    ("door", door),
];

/// When everything here happens.
const NOW: i64 = 1_735_749_045_000;
/// The tenant that asks.
const TENANT: &str = "shop";
/// Its secret key; inputs of `door` hold it.
const SECRET_KEY: &str = "sk_shop_secret";
/// How others would reach the server.
const URL: &str = "http://127.0.0.1:8000";
/// The most requests of one input of `door`.
const REQUESTS_MAX: usize = 16;

fn text(input: &[u8]) -> &str {
    std::str::from_utf8(input).unwrap_or_default()
}

fn rules() -> PhoneRules {
    let countries = ["CN", "DE", "US"].map(|code| code.parse().expect("it is a country"));
    PhoneRules { default_region: Region::CN, countries: BTreeSet::from(countries) }
}

/// What a person types: refused, or one number in its one form.
pub fn phone(input: &[u8]) {
    let Ok(phone) = Phone::parse(text(input), &rules()) else { return };
    let e164 = phone.e164();
    let digits = e164.strip_prefix('+').expect("E.164 begins with a plus");
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    assert!(plain && (7..=15).contains(&digits.len()) && !digits.starts_with('0'), "{e164}");
    assert_eq!(Phone::from_e164(e164).as_ref(), Some(&phone), "it is read back");
    assert_eq!(Phone::parse(e164, &rules()).as_ref(), Ok(&phone), "its own form is a spelling");
    let national = phone.mainland().is_none_or(|national| e164 == format!("+86{national}"));
    assert!(national && !phone.masked().contains(digits), "{e164}");
}

/// The names that paths and providers bring back: one spelling each.
pub fn id(input: &[u8]) {
    let text = text(input);
    if let Ok(id) = text.parse::<VerificationId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(id) = text.parse::<DeliveryId>() {
        assert_eq!(id.to_string(), text);
    }
}

/// The sealed name of a challenge: only the one that was minted opens, whatever is done to it;
/// and what comes as a solution is judged right only if it is one.
pub fn challenge(input: &[u8]) {
    let (verifier, _) = empty();
    let minted = verifier.mint_challenge(TENANT).id;
    let open = |id: &str| verifier.open_challenge(id);
    assert!(open(text(input)).is_none(), "a forgery was opened");
    assert!(open(&format!("{TENANT}~{}", text(input))).is_none(), "a forgery was opened");
    assert!(open(&minted).is_some());
    assert!(open(&minted.replace(TENANT, "bank")).is_none(), "another tenant's was opened");
    let mut bent = minted.clone().into_bytes();
    for (byte, change) in bent.iter_mut().zip(input) {
        *byte = byte.wrapping_add(*change) & 0x7f;
    }
    let bent = String::from_utf8(bent).expect("it is ASCII");
    let longer = format!("{minted}{}", text(input));
    for other in [bent, longer].iter().filter(|other| **other != minted) {
        assert!(open(other).is_none(), "{other} was opened");
    }
    bend_every_kind(&verifier, input);
    let wish = Wish::Work(Version::Two);
    let asked = Ask { tenant: TENANT, purpose: None, address: None, hint: Hint::Low, wish };
    let work = verifier.ask_challenge(&asked).expect("nobody asked before").id;
    for id in [Some(work.as_str()), None] {
        let reply = Reply { tenant: TENANT, id, purpose: "login", address: None };
        for answer in [text(input).to_owned(), STANDARD.encode(input)] {
            let Answered::Minted { given, .. } = verifier.answered(&reply, answer) else {
                continue;
            };
            assert!(!matches!(given, Given::Work(_, true)), "work was done without work");
        }
    }
}

/// A challenge of each kind, bound to a purpose and a network: its seal opens as it was minted,
/// for its own tenant and purpose and from there, and in no other form and nowhere else.
fn bend_every_kind(verifier: &Verifier, input: &[u8]) {
    let kinds = [
        Wish::Image,
        Wish::Work(Version::One),
        Wish::Work(Version::Two),
        Wish::ThirdParty(Vendor::Turnstile, 0),
        Wish::ThirdParty(Vendor::Cap, 15),
    ];
    let (home, away) = (Ipv4Addr::new(203, 0, 113, 7), Ipv4Addr::new(203, 0, 114, 7));
    let (home, away) = (Some(home.into()), Some(away.into()));
    for wish in kinds {
        let purpose = Some("login");
        let asked = Ask { tenant: TENANT, purpose, address: home, hint: Hint::Low, wish };
        let id = verifier.ask_challenge(&asked).expect("few were asked for").id;
        let reads = |tenant, id: &str, purpose, address| {
            let reply = Reply { tenant, id: Some(id), purpose, address };
            !matches!(verifier.answered(&reply, text(input).to_owned()), Answered::Unknown)
        };
        assert!(reads(TENANT, &id, "login", home) && reads(TENANT, &id, "login", None));
        assert!(!reads(TENANT, &id, "login", away) && !reads(TENANT, &id, "pay", home));
        assert!(!reads("bank", &id, "login", home));
        let (at, change) = (input.first().copied(), input.get(1).copied());
        let mut bent = id.clone().into_bytes();
        let at = usize::from(at.unwrap_or_default()) % bent.len();
        bent[at] = (bent[at] ^ change.unwrap_or(1)) & 0x7f;
        let bent = String::from_utf8(bent).expect("it is ASCII");
        assert!(bent == id || !reads(TENANT, &bent, "login", home), "{bent} was taken");
    }
}

/// The forwarding header: what the client wrote left of the proxy's own entry means nothing.
pub fn client_ip(input: &[u8]) {
    let Ok(written) = HeaderValue::from_bytes(input) else { return };
    let loopback = "127.0.0.0/8".parse().expect("it is a network");
    let (proxy, client) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(203, 0, 113, 7).into());
    let trusting = TrustedProxies::new(vec![loopback]);
    let asked = |proxies: &TrustedProxies, peer: IpAddr, lines: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            let value = HeaderValue::from_bytes(line).expect("a longer one is a header, too");
            headers.append("x-forwarded-for", value);
        }
        proxies.client(peer, &headers)
    };
    let alone = asked(&trusting, proxy, &[input]);
    assert_eq!(alone, alone.to_canonical(), "one form for each address");
    assert_eq!(asked(&trusting, client, &[input]), client, "a stranger is not believed");
    assert_eq!(asked(&TrustedProxies::default(), proxy, &[input]), proxy, "nobody is");
    assert_eq!(asked(&trusting, proxy, &[input, b"203.0.113.7"]), client, "a line of its own");
    // A header that is not text ends the list: the proxy that sent it is the client then.
    if written.to_str().is_ok() {
        let appended = [input, b", 203.0.113.7"].concat();
        assert_eq!(asked(&trusting, proxy, &[&appended]), client, "the proxy's own entry");
    }
}

/// A provider of each kind that something may be pushed to.
const PROVIDERS: &str = r#"
[[providers]]
name = "yuntongxun"
kind = "yuntongxun"
account_sid = "sid"
auth_token = "token"
app_id = "app"
[[providers]]
name = "aliyun"
kind = "aliyun"
access_key_id = "id"
access_key_secret = "secret"
sign_name = "shop"
template_code = "SMS_1"
template_params = { code = "code", time = "minutes" }
[[providers]]
name = "tencent"
kind = "tencent"
secret_id = "id"
secret_key = "key"
sdk_app_id = "1"
template_id = "2"
[[providers]]
name = "twilio"
kind = "twilio"
account_sid = "AC00000000000000000000000000000001"
auth_token = "token"
from = "+15005550006"
[[providers]]
name = "vonage"
kind = "vonage"
api_key = "key"
api_secret = "secret"
from = "Acme"
[[providers]]
name = "plivo"
kind = "plivo"
auth_id = "MAFAKE0000000000001X"
auth_token = "token"
from = "+14155550100"
[[providers]]
name = "huawei"
kind = "huawei"
app_key = "key"
app_secret = "secret"
template_id = "e14"
[[providers]]
name = "webhook"
kind = "webhook"
base_url = "http://127.0.0.1:9/send"
format = "form"
signing_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
body = { to = "{phone}", text = "{text}" }
"#;

/// What a provider pushes (or somebody who found its path): read, or passed over.
pub fn receipts(input: &[u8]) {
    static KINDS: OnceLock<Vec<Arc<dyn Provider>>> = OnceLock::new();
    let kinds = KINDS.get_or_init(|| {
        let config = Config::parse(PROVIDERS).unwrap_or_else(|wrong| panic!("{:?}", wrong.0));
        let parts = Parts {
            client: transport::client().expect("a client needs nothing from outside"),
            clock: Clock::manual(NOW),
            simulator: Arc::default(),
            receipts_url: Some(format!("{URL}/receipts/one/secret")),
        };
        config.providers.iter().map(|provider| provider.make(&parts)).collect()
    });
    let size = |text: &str| text.len() <= input.len();
    for provider in kinds {
        let pushed = Pushed { url: URL, headers: &HeaderMap::new(), body: input };
        let read = provider.read_receipts(&pushed);
        let signs = ["twilio", "plivo", "webhook"].contains(&provider.name());
        assert!(!signs || read.is_none(), "{} took an unsigned push", provider.name());
        let receipts = read.map(|read| read.receipts).unwrap_or_default();
        assert!(receipts.len() <= input.len(), "more receipts than bytes");
        let about = |one: &About| match one {
            About::Reference(reference) => size(reference),
            About::Phone(_) => true,
        };
        assert!(receipts.iter().all(|one| about(&one.about) && size(&one.message_id)));
    }
}

/// A third party of each vendor.
const THIRD_PARTIES: [(&str, &str); 7] = [
    ("turnstile", "hosts = [\"shop.example\"]"),
    ("hcaptcha", "hosts = [\"shop.example\"]"),
    ("recaptcha-v2", "hosts = [\"shop.example\"]"),
    ("recaptcha-v3", "hosts = [\"shop.example\"]\nscore_min = 0.5"),
    ("geetest", "hosts = [\"shop.example\"]"),
    ("tencent-captcha", "api_id = \"id\"\napi_key = \"key\""),
    ("cap", "base_url = \"https://cap.example\""),
];

/// What a vendor answers, or somebody in its place; and what is sent as its token: no panic, a yes
/// only out of a 200 that says so, and a token that is passed on is plain.
pub fn third_party(input: &[u8]) {
    static MEMBERS: OnceLock<Vec<Member>> = OnceLock::new();
    let members = MEMBERS.get_or_init(|| {
        let client = transport::client().expect("a client needs nothing from outside");
        let parts = third_party::settings::Parts { client, clock: Clock::manual(NOW) };
        let member = |(kind, more): (&str, &str)| {
            let table =
                format!("kind = \"{kind}\"\nsite_key = \"1\"\nsecret_key = \"secret\"\n{more}");
            let table = table.parse().expect("it is TOML");
            let settings = third_party::settings::Settings::read(table);
            Member::new(settings.expect("nothing is wrong with it"), &parts)
        };
        THIRD_PARTIES.map(member).into_iter().collect()
    });
    let said = String::from_utf8_lossy(input).to_ascii_lowercase();
    let yes = |vendor| match vendor {
        Vendor::TencentCaptcha => said.contains("response"),
        // Its host stands in a URL, which has many spellings.
        Vendor::Geetest => said.contains("result"),
        Vendor::Cap => said.contains("success") && said.contains("true"),
        _ => said.contains("success") && said.contains("shop.example"),
    };
    for member in members {
        // Escapes in JSON spell words in other ways; they are rare enough to be passed over.
        let escaped = said.contains('\\');
        for token in ["token", text(input)] {
            for status in [200, 400, 403, 404, 418] {
                let verdict = member.read(token, status, input);
                let passed = verdict == Verdict::Passed;
                assert!(!passed || status == 200, "{status} is no yes");
                assert!(!passed || escaped || yes(member.vendor()), "{:?}", member.vendor());
                let (outcome, why) = verdict.words();
                assert!(!outcome.is_empty() && !why.contains(' ') && why.len() < 32);
            }
        }
        if let Some(identity) = member.identity(text(input)) {
            assert!(identity.len() <= input.len() && identity.is_ascii());
            assert!(!identity.contains([' ', '\n', '\0']));
        }
    }
}

/// A configuration file: resolved, or told what is wrong with it.
pub fn config(input: &[u8]) {
    // `…_file` settings name files, and who writes the configuration may name any; a fuzzer that
    // names /dev/zero learns nothing.
    if text(input).contains("_file") {
        return;
    }
    if let Err(mistakes) = Config::parse(text(input)) {
        assert!(!mistakes.0.is_empty(), "a refusal without a reason");
        assert!(mistakes.0.iter().all(|mistake| !mistake.trim().is_empty()));
    }
}

/// Requests as text, one after the other, against all doors of a server that nobody has used:
/// no answer is a fault of the server, and every refusal is one that a program can read.
pub fn door(input: &[u8]) {
    thread_local! {
        static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime needs nothing from outside");
    }
    let doors = doors();
    let mut id = String::new();
    for written in text(input).split("\n--\n").take(REQUESTS_MAX) {
        let Some(request) = request(&written.replace("$id", &id)) else { continue };
        let answered = RUNTIME.with(|runtime| {
            runtime.block_on(async {
                let answer = router(doors.clone()).oneshot(request).await;
                let answer = answer.unwrap_or_else(|never| match never {});
                let (head, body) = answer.into_parts();
                let body = body.collect().await.expect("our bodies do not break off");
                (head, body.to_bytes())
            })
        });
        let (head, body) = answered;
        assert!(!head.status.is_server_error(), "{} {written:?}", head.status);
        let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        if head.status.is_client_error() && !body.is_empty() {
            let json = json.as_ref().expect("a refusal is JSON");
            assert_eq!(json["status"], head.status.as_u16(), "{written:?}");
        }
        if head.status == StatusCode::CREATED {
            let given = json.as_ref().and_then(|json| json["id"].as_str());
            given.expect("what was made has a name").clone_into(&mut id);
        }
    }
}

/// `METHOD path`, lines of headers, an empty line, the body; nothing, if it cannot be sent.
fn request(written: &str) -> Option<Request<Body>> {
    let (head, body) = written.split_once("\n\n").unwrap_or((written, ""));
    let (first, headers) = head.split_once('\n').unwrap_or((head, ""));
    let (method, path) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(path);
    for line in headers.lines() {
        let (name, value) = line.split_once(':')?;
        request = request.header(name, value.trim());
    }
    let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let request = request.extension(Peer(peer)).body(Body::from(body.to_owned())).ok()?;
    // Other URIs do not get through hyper either.
    request.uri().path().starts_with('/').then_some(request)
}

/// An empty store, and the verbs over it.
fn empty() -> (Verifier, Arc<dyn Store>) {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("keys");
        let ring = keys::load_or_make(&path, NOW, &mut SeededChance(1));
        Keys::new(ring.expect("a key file can be made"))
    });
    let clock = Clock::manual(NOW);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
    // Nobody takes the handoffs: what is accepted stays in the store.
    let (sender, _) = mpsc::channel(1);
    let (verbs, keys) = (Arc::clone(&store), keys.clone());
    let verifier = Verifier::new(verbs, clock, keys, Policy::default(), URL, sender);
    (verifier, store)
}

fn doors() -> Doors {
    let (verifier, store) = empty();
    let said = |code: &str| code.to_owned();
    let codes = Codes {
        ok: said("0"),
        image_code: said("4001"),
        throttled: said("4008"),
        sms_code: said("4008"),
        param: said("5006"),
        server: said("5000"),
    };
    let shop = Tenant {
        purposes: vec!["login".to_owned()],
        id: TENANT.to_owned(),
        origins: vec![said("https://shop.example")],
        challenge: Demand::Browsers,
        challenge_kinds: vec![Offer::Image, Offer::Work, Offer::Audio],
    };
    let mut tenants = Tenants::default();
    assert!(tenants.add(shop, SECRET_KEY, Some("pk_shop_public")));
    let loopback = "127.0.0.0/8".parse().expect("it is a network");
    let settings = Settings {
        phones: rules(),
        public_url: URL.to_owned(),
        proxies: TrustedProxies::new(vec![loopback]),
        tenants,
        seed: Some(SeedSettings {
            tenant: "default".to_owned(),
            codes,
            audio: true,
            level: Level::Plain,
        }),
        dev: Some(Dev { simulator: Arc::new(Simulator::default()), publishable_key: None }),
    };
    let providers: Providers = Arc::new([]);
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
    Doors::new(Inner { verifier, store, providers, metrics, settings })
}
