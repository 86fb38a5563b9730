//! What is asked at all, how often, and with which settings.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::domain::third_party::PAUSE;
use crate::providers::kind::Misfit;
use crate::third_party::settings::Settings;

#[tokio::test]
async fn what_is_no_token_is_refused_without_asking() {
    for kind in KINDS {
        let (base_url, requests) = vendor(answer("200 OK", yes(kind).as_bytes())).await;
        let member = member(kind, &base_url);
        let long = "x".repeat(8193);
        let mut nonsense = vec!["", " ", "a b", "a\nb", "a\0b", "é", "\u{202e}x", long.as_str()];
        if ["geetest", "tencent-captcha"].contains(&kind) {
            nonsense.extend(["x", "{}", "[]", "null", "\"x\""]);
            nonsense.extend([
                r#"{"lot_number":"a b","captcha_output":"x","pass_token":"x","gen_time":"1"}"#,
                r#"{"lot_number":"x","captcha_output":"x","pass_token":"x","gen_time":"1e9"}"#,
                r#"{"lot_number":"x","captcha_output":"","pass_token":"x","gen_time":"1"}"#,
                r#"{"ticket":"","randstr":"x"}"#,
                r#"{"ticket":"x","randstr":"a b"}"#,
                r#"{"ticket":"x"}"#,
            ]);
        }
        for token in nonsense {
            assert_eq!(member.identity(token), None, "{kind}: {token:?}");
            assert_eq!(judged(&member, token).await, Refused("malformed"), "{kind}: {token:?}");
        }
        assert!(requests.lock().unwrap().is_empty(), "{kind}");
    }
    let (base_url, _) = vendor(Script::Close).await;
    assert!(member("turnstile", &base_url).identity(&"x".repeat(2048)).is_some());
    assert!(member("turnstile", &base_url).identity(&"x".repeat(2049)).is_none());
}

#[test]
fn a_token_is_the_same_one_however_it_is_written() {
    let identity = |kind: &str, text: &str| member(kind, "http://127.0.0.1:9").identity(text);
    let other = format!(
        "{{ \"gen_time\":\"17\", \"pass_token\":\"x\", \"captcha_output\":\"y\", \"lot_number\" : \
         \"{LOT}\" }}"
    );
    assert_eq!(identity("geetest", &other), identity("geetest", &token("geetest")));
    let other = "{\"randstr\":\"@Oth\",\"ticket\":\"tr03\\u0058aC*\"}";
    let same = identity("tencent-captcha", &token("tencent-captcha"));
    assert_eq!(identity("tencent-captcha", other), same);
    assert_eq!(identity("turnstile", "one").unwrap(), "one");
}

#[tokio::test]
async fn a_vendor_that_does_not_answer_is_left_alone_for_a_while() {
    let (base_url, requests) = vendor(answer("503 Busy", b"")).await;
    let member = member("turnstile", &base_url);
    let count = || requests.lock().unwrap().len();
    assert!(!member.failed_of_late() && member.rests_until().is_none());
    for asked in 1..=3 {
        assert_eq!(judged(&member, "x").await, Down("http-5xx"));
        assert!(member.failed_of_late());
        assert_eq!(count(), asked);
    }
    let until = member.clock.now() + PAUSE;
    assert_eq!(member.rests_until(), Some(until));
    for _ in 0..100 {
        assert_eq!(member.ask("x", None).await, Asked::Resting { until });
    }
    assert_eq!(count(), 3, "nobody waits for it, and it is not asked");
    member.clock.advance(PAUSE);
    assert_eq!(judged(&member, "x").await, Down("http-5xx"), "one tries it again");
    assert!(matches!(member.ask("x", None).await, Asked::Resting { .. }));
    assert_eq!(count(), 4);
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_a_wrong_secret_does_not_close_the_door() {
    for (code, unfit) in [("invalid-input-response", false), ("invalid-input-secret", true)] {
        let body = no(code);
        let (base_url, requests) = vendor(answer("200 OK", body.as_bytes())).await;
        let member = member("turnstile", &base_url);
        for _ in 0..5 {
            judged(&member, "x").await;
        }
        assert_eq!(requests.lock().unwrap().len(), 5);
        assert_eq!(member.failed_of_late(), unfit, "who sends bad tokens gets nothing easier");
    }
}

#[tokio::test]
async fn so_many_are_asked_about_at_once_and_a_flood_is_not_an_outage() {
    let (base_url, _) = vendor(Script::Stall(Vec::new())).await;
    let text = table("turnstile", &base_url).replace("timeout_ms = 400", "timeout_ms = 3000");
    let member = Arc::new(member_of(&text));
    let mut asking = JoinSet::new();
    for _ in 0..ASKED_AT_ONCE {
        let member = Arc::clone(&member);
        asking.spawn(async move { member.ask("x", None).await });
    }
    while member.places.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(member.ask("x", None).await, Asked::Busy);
    assert!(!member.failed_of_late());
    // Who gives up leaves a place.
    asking.abort_all();
    while asking.join_next().await.is_some() {}
    assert_eq!(member.places.available_permits(), ASKED_AT_ONCE);
}

#[test]
fn every_mistake_is_told_at_its_key() {
    let told = |kind: &str, from: &str, to: &str| {
        let text = table(kind, "https://vendor.example").replace(from, to);
        match Settings::read(text.parse().unwrap()) {
            Ok(settings) => format!("nothing is wrong with {settings:?}"),
            Err(Misfit::Form { path, message }) => format!("{path}: {message}"),
            Err(Misfit::Unfit(unfit)) => {
                unfit.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
        }
    };
    let end = "timeout_ms = 400\n";
    let cases = [
        ("turnstile", "kind = \"turnstile\"", "kind = \"turnstyle\"", "kind: \"turnstile\", "),
        ("turnstile", "https://", "http://", "base_url: write https://"),
        ("turnstile", "https://", "ftp://", "base_url: write an http"),
        ("turnstile", "/base", "/base?x=1", "base_url: write an http"),
        ("turnstile", SITE_KEY, "", "site_key: copy the public key"),
        ("turnstile", SECRET, "", "secret_key: copy the secret"),
        ("turnstile", SECRET, "a b", "secret_key: copy the secret"),
        ("turnstile", "\"shop.example\", \"m.shop\"", "", "hosts: list the hosts"),
        ("turnstile", "\"m.shop\"", "\"https://m.shop\"", "hosts: write hosts alone"),
        ("turnstile", end, "action = \"a b\"\ntimeout_ms = 400\n", "action: 1 to 32"),
        ("turnstile", end, "score_min = 0.5\ntimeout_ms = 400\n", "score_min: this vendor"),
        ("turnstile", end, "timeout_ms = 5001\n", "timeout_ms: 200 to 5000"),
        ("turnstile", end, "timeout_ms = 199\n", "timeout_ms: 200 to 5000"),
        ("turnstile", end, "when_down = \"allow\"\n", "when_down: \"refuse\", \"image\" or"),
        ("turnstile", end, "name = \"a b\"\n", "name: 1 to 64"),
        ("turnstile", end, "api_id = \"x\"\n", "api_id: this vendor takes none"),
        ("turnstile", end, "api_key = \"x\"\n", "api_key: this vendor takes none"),
        ("turnstile", end, "sitekey = \"x\"\n", "unknown field `sitekey`"),
        ("hcaptcha", end, "action = \"x\"\n", "action: this vendor reports no action"),
        ("recaptcha-v2", end, "score_min = 0.5\n", "score_min: this vendor reports no score"),
        ("recaptcha-v3", "0.7", "1.1", "score_min: 0.0 to 1.0"),
        ("geetest", end, "action = \"x\"\n", "action: this vendor reports no action"),
        ("tencent-captcha", "199999164", "abc", "site_key: copy the CaptchaAppId"),
        ("tencent-captcha", "AKIDz8krbsJ5", "", "api_id: copy the SecretId"),
        ("tencent-captcha", "Gu5t9xGARNpq86cd98joQYCN3", "", "api_key: copy the SecretKey"),
        ("tencent-captcha", end, "hosts = [\"a.example\"]\n", "hosts: this vendor reports no"),
        ("cap", "base_url = \"https://vendor.example/base\"", "", "base_url: write an http"),
        ("cap", end, "hosts = [\"a.example\"]\n", "hosts: this vendor reports no host"),
    ];
    for (kind, from, to, expected) in cases {
        let told = told(kind, from, to);
        assert!(told.contains(expected), "{kind} {to}: {told}");
        assert!(!told.contains(SECRET), "{told}");
    }
    for kind in KINDS {
        let told = told(kind, "name", "name");
        assert!(told.starts_with("nothing is wrong"), "{kind}: {told}");
        assert!(!told.contains(SECRET), "{told}");
    }
    // On the operator's own network nobody else listens, which is for the operator to say.
    assert!(told("cap", "https://", "http://").starts_with("nothing is wrong"));
}

#[test]
fn what_is_left_out_is_as_the_documents_say() {
    let text = |kind: &str, more: &str| {
        format!("kind = \"{kind}\"\nsite_key = \"1\"\nsecret_key = \"s\"\n{more}")
    };
    let hosts = "hosts = [\"a.example\"]\n";
    let turnstile = settings(&text("turnstile", hosts));
    assert_eq!(turnstile.name, "turnstile");
    assert_eq!(turnstile.base_url, "https://challenges.cloudflare.com/turnstile/v0");
    assert_eq!(turnstile.action(), Some("countersign"));
    assert_eq!(turnstile.when_down(), WhenDown::Refuse);
    assert_eq!((turnstile.expected().score_min, turnstile.send_address), (None, true));
    assert_eq!(turnstile.timeout().as_millis(), 3000);
    let open = settings(&text("turnstile", &format!("{hosts}action = \"\"\n")));
    assert_eq!(open.action(), None);
    let v3 = settings(&text("recaptcha-v3", hosts));
    assert_eq!(v3.expected().score_min, Some(0.5));
    assert_eq!(settings(&text("hcaptcha", hosts)).action(), None);
    for (word, expected) in [("image", WhenDown::Image), ("proof-of-work", WhenDown::Work)] {
        let settings = settings(&text("geetest", &format!("when_down = \"{word}\"\n")));
        assert_eq!(settings.when_down(), expected);
    }
}

#[test]
fn what_works_and_should_be_looked_at_is_said() {
    let caution = |text: String| settings(&text).caution();
    let whole = |kind: &str| table(kind, "https://vendor.example");
    for kind in KINDS {
        assert_eq!(caution(whole(kind)), None, "{kind}");
    }
    let test = whole("turnstile").replace(SECRET, "1x0000000000000000000000000000000AA");
    assert!(caution(test).is_some_and(|told| told.contains("test secret")));
    let any = whole("hcaptcha").replace("\"shop.example\"", "\"*\"");
    assert!(caution(any).is_some_and(|told| told.contains("any page")));
    let clear = whole("cap").replace("https://", "http://");
    assert!(caution(clear).is_some_and(|told| told.contains("http://")));
    let own = whole("cap").replace("https://vendor.example", "http://127.0.0.1:3000");
    assert_eq!(caution(own), None);
}

#[tokio::test]
async fn the_doctor_is_told_whether_the_vendor_knows_us_and_what_to_do() {
    let named = |name: &str| format!(r#"{{"Response":{{"Error":{{"Code":"{name}"}}}}}}"#);
    let coded = |code: u8| format!(r#"{{"Response":{{"CaptchaCode":{code}}}}}"#);
    let error = r#"{"status":"error","code":"-50005","msg":"illegal gen_time"}"#;
    let sentence = |text: &str| format!(r#"{{"error":"{text}"}}"#);
    let cases = [
        ("turnstile", no("invalid-input-response"), Ok("knows the secret")),
        ("turnstile", no("invalid-input-secret"), Err("dash.cloudflare.com")),
        ("turnstile", yes("turnstile").to_owned(), Err("test keys")),
        ("hcaptcha", no("invalid-input-response"), Ok("knows the secret")),
        ("hcaptcha", no("invalid-input-secret"), Err("dashboard.hcaptcha.com")),
        ("hcaptcha", no("sitekey-secret-mismatch"), Err("different accounts")),
        ("recaptcha-v2", no("invalid-input-response"), Ok("knows the secret")),
        ("recaptcha-v2", no("invalid-input-secret"), Err("google.com/recaptcha/admin")),
        ("recaptcha-v3", no("invalid-input-response"), Ok("knows the secret")),
        ("recaptcha-v3", no("invalid-input-secret"), Err("google.com/recaptcha/admin")),
        ("geetest", error.to_owned(), Ok("shows only with a person's token")),
        ("tencent-captcha", coded(15), Ok("knows the secret")),
        ("tencent-captcha", coded(100), Err("AppSecretKey")),
        ("tencent-captcha", named("AuthFailure.SignatureFailure"), Err("api_id and api_key")),
        ("tencent-captcha", named("UnauthorizedOperation"), Err("may not do this")),
        ("cap", sentence("Token not found"), Ok("knows the secret")),
        ("cap", sentence("Invalid site key or secret"), Err("Cap's dashboard")),
        ("cap", "<html>".to_owned(), Err("is base_url right?")),
    ];
    for (kind, body, expected) in cases {
        let (base_url, _) = vendor(answer("200 OK", body.as_bytes())).await;
        let member = member(kind, &base_url);
        assert!(member.identity(&member.dialect.made_up()).is_some(), "{kind} has this form");
        let told = explain(member.vendor(), member.try_secret().await);
        match (&told, expected) {
            (Ok(told), Ok(part)) => assert!(told.contains(part), "{kind}: {told}"),
            (Err(told), Err(part)) => assert!(told.contains(part), "{kind}: {told}"),
            _ => panic!("{kind} {body}: {told:?}"),
        }
    }
}
