use std::time::Instant;

use super::*;
use crate::providers::stub::{Script, Seen, answer, vendor};
use Verdict::{Down, Passed, Refused, Unfit};

mod bounds;

/// 2025-01-01 16:30:45 in Greenwich.
const WALL: Millis = 1_735_749_045_000;
const SITE_KEY: &str = "0x4AAAAAAA-site";
const SECRET: &str = "0x4AAAAAAA-very-secret";
const LOT: &str = "4dc3cfc2cdff448cad8d13107198d473";

/// The settings of a kind that nothing is wrong with, at this URL.
fn table(kind: &str, base_url: &str) -> String {
    let more = match kind {
        "turnstile" | "hcaptcha" | "recaptcha-v2" => "hosts = [\"shop.example\", \"m.shop\"]",
        "recaptcha-v3" => "hosts = [\"shop.example\"]\naction = \"sms\"\nscore_min = 0.7",
        "tencent-captcha" => "api_id = \"AKIDz8krbsJ5\"\napi_key = \"Gu5t9xGARNpq86cd98joQYCN3\"",
        _ => "",
    };
    let site_key = if kind == "tencent-captcha" { "199999164" } else { SITE_KEY };
    format!(
        "kind = \"{kind}\"\nbase_url = \"{base_url}/base\"\nsite_key = \"{site_key}\"\n\
         secret_key = \"{SECRET}\"\ntimeout_ms = 400\n{more}\n"
    )
}

fn settings(text: &str) -> Settings {
    Settings::read(text.parse().unwrap()).unwrap_or_else(|misfit| panic!("{misfit:?}"))
}

fn member_of(text: &str) -> Member {
    let clock = Clock::manual(WALL);
    Member::new(settings(text), &Parts { client: transport::client().unwrap(), clock })
}

fn member(kind: &str, base_url: &str) -> Member {
    member_of(&table(kind, base_url))
}

/// A token in the form of this kind.
fn token(kind: &str) -> String {
    match kind {
        "geetest" => format!(
            "{{\"captcha_id\":\"x\",\"lot_number\":\"{LOT}\",\"captcha_output\":\"f+N/==\",\
             \"pass_token\":\"{}\",\"gen_time\":\"1735749045\"}}",
            "ab".repeat(32)
        ),
        "tencent-captcha" => "{\"ret\":0,\"ticket\":\"tr03XaC*\",\"randstr\":\"@Vki\"}".to_owned(),
        _ => "0.zrSnRHO7h0HwSjSCU8oyzbjEtD8p+a/b=".to_owned(),
    }
}

/// What the vendor says to somebody it vouches for.
fn yes(kind: &str) -> &'static str {
    match kind {
        "turnstile" => {
            r#"{"success":true,"error-codes":[],"challenge_ts":"2025-01-01T16:30:40.000Z",
                "hostname":"shop.example","action":"countersign","cdata":"x","metadata":{}}"#
        }
        "hcaptcha" => {
            r#"{"success":true,"challenge_ts":"2025-01-01T16:30:40Z","hostname":"shop.example",
                "credit":false,"score":0.1}"#
        }
        "recaptcha-v2" => {
            r#"{"success":true,"challenge_ts":"2025-01-01T16:30:40Z","hostname":"shop.example"}"#
        }
        "recaptcha-v3" => {
            r#"{"success":true,"hostname":"shop.example","score":0.9,"action":"sms"}"#
        }
        "geetest" => {
            r#"{"status":"success","result":"success","reason":"",
                "captcha_args":{"used_type":"slide",
                "user_ip":"127.0.0.1","lot_number":"4dc3cfc2cdff448cad8d13107198d473",
                "scene":"x","referer":"http://shop.example/a"}}"#
        }
        "tencent-captcha" => {
            r#"{"Response":{"CaptchaCode":1,"CaptchaMsg":"OK","EvilLevel":0,
                "GetCaptchaTime":0,"RequestId":"x"}}"#
        }
        _ => r#"{"success":true}"#,
    }
}

const KINDS: [&str; 7] =
    ["turnstile", "hcaptcha", "recaptcha-v2", "recaptcha-v3", "geetest", "tencent-captcha", "cap"];

/// What comes of a token when the vendor does this.
async fn verdict(kind: &str, script: Script) -> Verdict {
    let (base_url, _) = vendor(script).await;
    judged(&member(kind, &base_url), &token(kind)).await
}

async fn judged(member: &Member, token: &str) -> Verdict {
    match member.ask(token, None).await {
        Asked::Judged(verdict) => verdict,
        other => panic!("{other:?}"),
    }
}

async fn table_holds(kind: &str, cases: &[(&str, &str, Verdict)]) {
    for (status, body, expected) in cases {
        let found = verdict(kind, answer(status, body.as_bytes())).await;
        assert_eq!(found, *expected, "{kind}: {status} {body}");
    }
}

/// An answer that gives this reason, in the form of reCAPTCHA's family.
fn no(code: &str) -> String {
    format!(r#"{{"success":false,"error-codes":["{code}"]}}"#)
}

#[tokio::test]
async fn a_person_whom_the_vendor_vouches_for_passes() {
    for kind in KINDS {
        assert_eq!(verdict(kind, answer("200 OK", yes(kind).as_bytes())).await, Passed, "{kind}");
    }
}

#[tokio::test]
async fn turnstile_says_no_in_these_words() {
    let codes = [
        ("missing-input-secret", Unfit("wrong-secret")),
        ("invalid-input-secret", Unfit("wrong-secret")),
        ("missing-input-response", Refused("no-token")),
        ("invalid-input-response", Refused("wrong-token")),
        ("bad-request", Refused("bad-request")),
        ("timeout-or-duplicate", Refused("late-or-used")),
        ("internal-error", Down("vendor-fault")),
        ("something-new", Refused("unknown-code")),
    ];
    for (code, expected) in codes {
        for status in ["200 OK", "400 Bad Request"] {
            table_holds("turnstile", &[(status, &no(code), expected)]).await;
        }
    }
    let of = |host: &str, action: &str| {
        yes("turnstile").replace("shop.example", host).replace("countersign", action)
    };
    table_holds(
        "turnstile",
        &[
            ("200 OK", &of("m.shop", "countersign"), Passed),
            ("200 OK", &of("evil.example", "countersign"), Refused("other-host")),
            ("200 OK", &of("shop.example", "newsletter"), Refused("other-action")),
            ("200 OK", &of("shop.example", ""), Refused("other-action")),
            ("200 OK", r#"{"success":true,"action":"countersign"}"#, Refused("other-host")),
            ("200 OK", r#"{"success":true,"hostname":"shop.example"}"#, Refused("other-action")),
            ("200 OK", r#"{"success":false}"#, Refused("no-reason")),
            ("200 OK", r#"{"success":false,"error-codes":[]}"#, Refused("no-reason")),
        ],
    )
    .await;
}

#[tokio::test]
async fn hcaptcha_says_no_in_these_words() {
    let codes = [
        ("missing-input-secret", Unfit("wrong-secret")),
        ("invalid-input-secret", Unfit("wrong-secret")),
        ("missing-input-response", Refused("no-token")),
        ("invalid-input-response", Refused("wrong-token")),
        ("expired-input-response", Refused("late-or-used")),
        ("already-seen-response", Refused("late-or-used")),
        ("invalid-or-already-seen-response", Refused("late-or-used")),
        ("bad-request", Refused("bad-request")),
        ("missing-remoteip", Refused("address")),
        ("invalid-remoteip", Refused("address")),
        ("not-using-dummy-passcode", Refused("test-secret")),
        ("sitekey-secret-mismatch", Refused("key-mismatch")),
        ("something-new", Refused("unknown-code")),
    ];
    for (code, expected) in codes {
        table_holds("hcaptcha", &[("200 OK", &no(code), expected)]).await;
    }
    let elsewhere = yes("hcaptcha").replace("shop.example", "not-provided");
    table_holds("hcaptcha", &[("200 OK", &elsewhere, Refused("other-host"))]).await;
}

#[tokio::test]
async fn recaptcha_says_no_in_these_words_and_version_3_by_its_score() {
    let codes = [
        ("missing-input-secret", Unfit("wrong-secret")),
        ("invalid-input-secret", Unfit("wrong-secret")),
        ("missing-input-response", Refused("no-token")),
        ("invalid-input-response", Refused("wrong-token")),
        ("bad-request", Refused("bad-request")),
        ("timeout-or-duplicate", Refused("late-or-used")),
        ("browser-error", Refused("browser-error")),
        ("invalid-input-response\",\"invalid-input-secret", Unfit("wrong-secret")),
    ];
    for (code, expected) in codes {
        for kind in ["recaptcha-v2", "recaptcha-v3"] {
            table_holds(kind, &[("200 OK", &no(code), expected)]).await;
        }
    }
    let app = r#"{"success":true,"apk_package_name":"m.shop"}"#;
    let other = yes("recaptcha-v2").replace("shop.example", "evil.example");
    let scored = r#"{"success":true,"hostname":"shop.example","score":0.9}"#;
    table_holds(
        "recaptcha-v2",
        &[
            ("200 OK", app, Passed),
            ("200 OK", &other, Refused("other-host")),
            // Keys of version 3, whose threshold nobody would look at.
            ("200 OK", scored, Refused("unread-score")),
        ],
    )
    .await;
    let of = |from: &str, to: &str| yes("recaptcha-v3").replace(from, to);
    table_holds(
        "recaptcha-v3",
        &[
            ("200 OK", &of("0.9", "0.7"), Passed),
            ("200 OK", &of("0.9", "1"), Passed),
            ("200 OK", &of("0.9", "0.69"), Refused("low-score")),
            ("200 OK", &of("0.9", "0"), Refused("low-score")),
            ("200 OK", &of("0.9", "9"), Refused("low-score")),
            ("200 OK", &of("0.9", "\"0.9\""), Down("garbled")),
            ("200 OK", &of("\"score\":0.9,", ""), Refused("no-score")),
            ("200 OK", &of("\"sms\"", "\"login\""), Refused("other-action")),
            ("200 OK", &of("shop.example", "evil.example"), Refused("other-host")),
        ],
    )
    .await;
}

#[tokio::test]
async fn geetest_says_no_in_these_words() {
    let fail = r#"{"status":"success","result":"fail","reason":"pass_token expire"}"#;
    let other = r#"{"result":"fail","reason":"x","captcha_args":{}}"#;
    let error = r#"{"status":"error","code":"-50005","msg":"illegal gen_time","desc":{}}"#;
    let lot = yes("geetest").replace(LOT, &"0".repeat(32));
    let bare = r#"{"result":"success"}"#;
    table_holds(
        "geetest",
        &[
            ("200 OK", bare, Passed),
            ("200 OK", fail, Refused("late-or-used")),
            ("200 OK", other, Refused("wrong-token")),
            ("200 OK", error, Refused("vendor-error")),
            ("200 OK", &lot, Refused("other-token")),
            ("200 OK", r#"{"status":"pending","result":"success"}"#, Down("garbled")),
            ("200 OK", r#"{"status":"success"}"#, Down("garbled")),
            ("403 Forbidden", yes("geetest"), Down("http-4xx")),
        ],
    )
    .await;
    let (base_url, _) = vendor(answer("200 OK", yes("geetest").as_bytes())).await;
    for (hosts, expected) in [("shop.example", Passed), ("other.example", Refused("other-host"))] {
        let hosts = format!("{}hosts = [\"{hosts}\"]\n", table("geetest", &base_url));
        assert_eq!(judged(&member_of(&hosts), &token("geetest")).await, expected);
    }
}

#[tokio::test]
async fn tencent_says_no_in_these_numbers_and_names() {
    let code = |code: i64, evil: &str| {
        format!(r#"{{"Response":{{"CaptchaCode":{code},"CaptchaMsg":"x","EvilLevel":{evil}}}}}"#)
    };
    let numbers = [
        (1, "0", Passed),
        (1, "null", Passed),
        (1, "100", Refused("suspicious")),
        (0, "0", Refused("unknown-code")),
        (6, "0", Refused("wrong-token")),
        (7, "0", Refused("wrong-token")),
        (8, "0", Refused("late-or-used")),
        (9, "0", Refused("late-or-used")),
        (13, "0", Refused("address")),
        (15, "0", Refused("wrong-token")),
        (16, "0", Refused("key-mismatch")),
        (21, "0", Refused("suspicious")),
        (100, "0", Refused("key-mismatch")),
        (77, "0", Refused("unknown-code")),
    ];
    for (number, evil, expected) in numbers {
        table_holds("tencent-captcha", &[("200 OK", &code(number, evil), expected)]).await;
    }
    let names = [
        ("AuthFailure.SecretIdNotFound", Unfit("wrong-api-key")),
        ("AuthFailure.SignatureFailure", Unfit("wrong-api-key")),
        ("UnauthorizedOperation.ErrAuth", Unfit("account")),
        ("ResourceUnavailable", Unfit("account")),
        ("RequestLimitExceeded", Down("http-429")),
        ("InternalError.Timeout", Down("vendor-fault")),
        ("InvalidParameterValue", Refused("unknown-code")),
        ("MissingParameter", Refused("unknown-code")),
    ];
    for (name, expected) in names {
        let body = format!(r#"{{"Response":{{"Error":{{"Code":"{name}","Message":"x"}}}}}}"#);
        table_holds("tencent-captcha", &[("200 OK", &body, expected)]).await;
    }
    for body in ["{}", r#"{"Response":{}}"#, r#"{"Response":{"CaptchaCode":"1"}}"#] {
        table_holds("tencent-captcha", &[("200 OK", body, Down("garbled"))]).await;
    }
    // What the widget makes up where it cannot reach the vendor is never asked about.
    let (base_url, requests) = vendor(answer("200 OK", yes("tencent-captcha").as_bytes())).await;
    let own = r#"{"ticket":"trerror_1001_199999164_1735749045","randstr":"@abc"}"#;
    let member = member("tencent-captcha", &base_url);
    assert_eq!(judged(&member, own).await, Refused("widgets-own"));
    assert!(requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn cap_says_no_in_these_sentences() {
    table_holds(
        "cap",
        &[
            ("404 Not Found", r#"{"error":"Token not found"}"#, Refused("wrong-token")),
            ("403 Forbidden", r#"{"error":"Token expired"}"#, Refused("late-or-used")),
            ("403 Forbidden", r#"{"error":"Invalid site key or secret"}"#, Unfit("wrong-secret")),
            ("404 Not Found", r#"{"error":"Invalid site key or secret"}"#, Unfit("wrong-secret")),
            (
                "400 Bad Request",
                r#"{"error":"Missing required parameters"}"#,
                Refused("bad-request"),
            ),
            ("200 OK", r#"{"success":false,"error":"Token not found"}"#, Refused("wrong-token")),
            ("200 OK", r#"{"success":false}"#, Refused("no-reason")),
            ("429 Too Many", r#"{"error":"You were temporarily"}"#, Down("http-429")),
            ("404 Not Found", "<html>not here</html>", Down("garbled")),
        ],
    )
    .await;
}

#[tokio::test]
async fn nothing_but_a_plain_yes_is_one() {
    for kind in KINDS {
        let yes = yes(kind);
        for status in ["500 Oops", "502 Bad Gateway", "503 Busy", "504 Late"] {
            table_holds(kind, &[(status, yes, Down("http-5xx"))]).await;
        }
        table_holds(kind, &[("429 Too Many", yes, Down("http-429"))]).await;
        table_holds(kind, &[("204 Empty", "", Down("http-other"))]).await;
        for body in ["", "yes", "true", "[]", "{", "\u{feff}", "null", "[true]", "{\"success\":1}"]
        {
            table_holds(kind, &[("200 OK", body, Down("garbled"))]).await;
        }
        // A yes on a page that says no; a yes twice, of which one is a no; a yes with a reason.
        let denied = verdict(kind, answer("403 Forbidden", yes.as_bytes())).await;
        assert!(matches!(denied, Down("garbled" | "http-4xx")), "{kind}: {denied:?}");
        let (word, other) = match kind {
            "geetest" => ("\"result\":\"success\"", "\"result\":\"fail\""),
            "tencent-captcha" => ("\"CaptchaCode\":1", "\"CaptchaCode\":7"),
            _ => ("\"success\":true", "\"success\":false"),
        };
        let twice = yes.replace(word, &format!("{other},{word}"));
        assert_ne!(twice, yes);
        table_holds(kind, &[("200 OK", &twice, Down("garbled"))]).await;
        let long = format!("{}{yes}", " ".repeat(70_000));
        table_holds(kind, &[("200 OK", &long, Down("answer-too-long"))]).await;
    }
    let both = r#"{"success":true,"error-codes":["timeout-or-duplicate"]}"#;
    table_holds("cap", &[("200 OK", both, Down("garbled"))]).await;
}

#[tokio::test]
async fn silence_ends_and_a_broken_line_is_no_answer() {
    for kind in KINDS {
        let half = answer("200 OK", &[b' '; 500]);
        let Script::Answer(half) = half else { unreachable!() };
        let began = Instant::now();
        assert_eq!(verdict(kind, Script::Stall(Vec::new())).await, Down("timeout"), "{kind}");
        assert_eq!(verdict(kind, Script::Stall(half[..60].to_vec())).await, Down("timeout"));
        assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(verdict(kind, Script::Close).await, Down("broken-off"), "{kind}");
        assert_eq!(verdict(kind, Script::Reset).await, Down("broken-off"), "{kind}");
        let nobody = format!("http://127.0.0.1:{}", free_port().await);
        let member = member(kind, &nobody);
        assert_eq!(judged(&member, &token(kind)).await, Down("no-connection"), "{kind}");
    }
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for kind in KINDS {
        let (elsewhere, asked) = vendor(answer("200 OK", yes(kind).as_bytes())).await;
        for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
            let head = format!("{status}\r\nLocation: {elsewhere}/base/siteverify");
            assert_eq!(verdict(kind, answer(&head, b"")).await, Down("redirect"), "{kind}");
        }
        assert!(asked.lock().unwrap().is_empty(), "{kind}: the secret went elsewhere");
    }
}

/// The one request that a vendor gets for a token of a person at this address.
async fn request(kind: &str, more: &str, address: Option<&str>) -> Seen {
    let (base_url, requests) = vendor(answer("200 OK", yes(kind).as_bytes())).await;
    let member = member_of(&format!("{}{more}", table(kind, &base_url)));
    member.ask(&token(kind), address.map(|text| text.parse().unwrap())).await;
    Seen::only(&requests)
}

#[tokio::test]
async fn each_vendor_is_asked_in_its_own_form() {
    let token = "0.zrSnRHO7h0HwSjSCU8oyzbjEtD8p%2Ba%2Fb%3D";
    let form = format!("secret={SECRET}&response={token}");
    for kind in ["turnstile", "recaptcha-v2", "recaptcha-v3"] {
        let seen = request(kind, "", None).await;
        assert_eq!(seen.line, "POST /base/siteverify HTTP/1.1");
        assert_eq!(seen.header("content-type"), "application/x-www-form-urlencoded");
        assert_eq!(seen.body, form);
        let with_address = format!("{form}&remoteip=203.0.113.7");
        assert_eq!(request(kind, "", Some("203.0.113.7")).await.body, with_address);
        // Who has everybody's address has nobody's; and who shall not be told is not.
        for local in ["127.0.0.1", "10.0.0.7", "192.168.1.1", "::1", "fd00::1", "fe80::1"] {
            assert_eq!(request(kind, "", Some(local)).await.body, form, "{local}");
        }
        let quiet = request(kind, "send_address = false\n", Some("203.0.113.7")).await;
        assert_eq!(quiet.body, form);
    }
    let seen = request("hcaptcha", "", Some("2001:db8::7")).await;
    assert_eq!(seen.body, format!("{form}&remoteip=2001%3Adb8%3A%3A7&sitekey={SITE_KEY}"));

    let seen = request("cap", "", Some("203.0.113.7")).await;
    assert_eq!(seen.line, format!("POST /base/{SITE_KEY}/siteverify HTTP/1.1"));
    assert_eq!(seen.header("content-type"), "application/json");
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    let token = super::tests::token("cap");
    assert_eq!(body, serde_json::json!({"secret": SECRET, "response": token}));

    let seen = request("geetest", "", None).await;
    assert_eq!(seen.line, format!("POST /base/validate?captcha_id={SITE_KEY} HTTP/1.1"));
    // printf %s $LOT | openssl dgst -sha256 -hmac $SECRET
    let signature = "726be902bf97b0f478d43395ce0f22154c4c398d9bfb920ce6003f7604925c17";
    let pass = "ab".repeat(32);
    let form = format!(
        "lot_number={LOT}&captcha_output=f%2BN%2F%3D%3D&pass_token={pass}&gen_time=1735749045\
         &sign_token={signature}"
    );
    assert_eq!(seen.body, form);
}

#[tokio::test]
async fn tencent_is_asked_under_a_signature_over_the_body() {
    let seen = request("tencent-captcha", "", Some("203.0.113.7")).await;
    assert_eq!(seen.line, "POST /base/ HTTP/1.1");
    let headers = [
        ("x-tc-action", "DescribeCaptchaResult"),
        ("x-tc-version", "2019-07-22"),
        ("x-tc-timestamp", "1735749045"),
        ("content-type", "application/json"),
    ];
    for (name, value) in headers {
        assert_eq!(seen.header(name), value);
    }
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    let expected = serde_json::json!({
        "CaptchaType": 9, "Ticket": "tr03XaC*", "Randstr": "@Vki", "UserIp": "203.0.113.7",
        "CaptchaAppId": 199_999_164, "AppSecretKey": SECRET,
    });
    assert_eq!(body, expected);
    let signer = crate::providers::signing::Tc3 {
        id: "AKIDz8krbsJ5",
        key: "Gu5t9xGARNpq86cd98joQYCN3",
        service: "captcha",
    };
    let (host, json) = (seen.header("host"), "application/json");
    let signed = signer.authorization(host, "/base/", WALL, json, seen.body.as_bytes());
    assert_eq!(seen.header("authorization"), signed);
    assert!(signed.contains("/2025-01-01/captcha/tc3_request, SignedHeaders=content-type;host"));
    let unknown = request("tencent-captcha", "", None).await;
    assert!(unknown.body.contains("\"UserIp\":\"127.0.0.1\""), "{}", unknown.body);
}
