//! Huawei's client and its documents' X-WSSE, as recorded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::providers::signing;

const VECTORS: &str = include_str!("../../../tests/vectors/huawei.json");
const FROM: &str = "huawei.from=8824110605***";

fn case(name: &str) -> Recorded {
    recorded(VECTORS).into_iter().find(|it| it.name == name).unwrap()
}

fn forged(name: &str, change: impl Fn(&mut Recorded)) -> String {
    let mut forged = case(name);
    change(&mut forged);
    forged.asked(&[FROM])
}

#[test]
fn huaweis_client_is_understood_in_both_proofs() {
    let (ok, params) = ("000000", "E200028");
    assert_answers(
        VECTORS,
        &[FROM],
        &[
            ("aksk_ascii", ok),
            ("aksk_chinese", params), // two variables
            ("aksk_three_numbers", ok),
            ("aksk_odd", ok),
            ("derived_wsse_ascii", ok),
            ("derived_wsse_chinese", params),
            ("derived_wsse_three_numbers", ok),
            ("derived_wsse_odd", ok),
        ],
    );
}

#[test]
fn a_signature_covers_its_headers_and_not_the_body() {
    let aksk = |change: fn(&mut Recorded)| forged("aksk_ascii", change);
    assert_eq!(
        aksk(|it| *it.header("authorization") = changed(it.header("authorization"))),
        "E000045"
    );
    assert_eq!(aksk(|it| it.header("host").push_str(".evil")), "E000045");
    assert_eq!(aksk(|it| it.header("user-agent").push('x')), "E000045");
    assert_eq!(aksk(|it| it.path.push('x')), "404");
    assert_eq!(aksk(|it| it.query = "a=b".to_owned()), "E000045");
    assert_eq!(aksk(|it| it.header("x-sdk-content-sha256").clear()), "E000045");
    assert_eq!(aksk(|it| it.wall += 14 * MINUTE), "000000");
    assert_eq!(aksk(|it| it.wall += 16 * MINUTE), "E000110");
    assert_eq!(aksk(|it| it.wall -= 16 * MINUTE), "E000110");
    assert_eq!(aksk(|it| it.header("authorization").clear()), "E000001");
    assert_eq!(aksk(|it| *it.header("authorization") = "Basic x".to_owned()), "E000002");
    assert_eq!(aksk(|it| *it.header("content-type") = "application/json".to_owned()), "E000045");
    assert_eq!(aksk(|it| it.method = "GET".to_owned()), "E000503");
    let short = aksk(|it| {
        let given = it.header("authorization");
        *given = given.replace(";x-sdk-date", "");
    });
    assert_eq!(short, "E000045", "the time has to be signed");
    let lacking = aksk(|it| {
        let given = it.header("authorization");
        *given = given.replace("SignedHeaders", "Headers");
    });
    assert_eq!(lacking, "E000006");
    assert_eq!(case("aksk_ascii").asked(&[FROM, "huawei.app_secret=another"]), "E000045");
    assert_eq!(case("aksk_ascii").asked(&[FROM, "huawei.app_key=another"]), "E000102");
    // That is how the vendor's own client signs.
    assert_eq!(aksk(|it| it.body = it.body.replace("482913", "000000")), "000000");
}

#[test]
fn a_digest_is_good_once_and_in_both_of_its_forms() {
    let wsse = |change: fn(&mut Recorded)| forged("derived_wsse_ascii", change);
    assert_eq!(wsse(|it| it.header("x-wsse").clear()), "E000020");
    assert_eq!(wsse(|it| *it.header("x-wsse") = "x".to_owned()), "E000021");
    for (part, code) in [
        ("Username", "E000022"),
        ("PasswordDigest", "E000023"),
        ("Nonce", "E000024"),
        ("Created", "E000025"),
    ] {
        let told = forged("derived_wsse_ascii", |it| {
            let given = it.header("x-wsse");
            *given = given.replace(&format!("{part}="), "Other=");
        });
        assert_eq!(told, code, "{part}");
    }
    assert_eq!(wsse(|it| *it.header("authorization") = "WSSE realm=\"SDP\"".to_owned()), "E000004");
    assert_eq!(wsse(|it| it.wall += 16 * MINUTE), "E000110");
    assert_eq!(case("derived_wsse_ascii").asked(&[FROM, "huawei.app_secret=another"]), "E000105");
    assert_eq!(case("derived_wsse_ascii").asked(&[FROM, "huawei.app_key=another"]), "E000102");
    assert_eq!(wsse(|it| *it.header("content-type") = "text/plain".to_owned()), "E000040");
    let hex = wsse(|it| {
        let text =
            "c9a86e1ec7c0448fa9c9e0d7c5e0ec1f2025-01-01T16:30:45Zq4Ii87BhST9vcs8wvrzN80SfD7Al";
        let digest = BASE64.encode(signing::sha256_hex(text.as_bytes()));
        let given = it.header("x-wsse");
        let raw = "stURdj5oux2HTHUFtTPPdNrVoolm5ugsmY62ozfwoyk=";
        assert!(given.contains(raw));
        *given = given.replace(raw, &digest);
    });
    assert_eq!(hex, "000000");
    let mut settings = Settings::default();
    settings.set(FROM).unwrap();
    let again = case("derived_wsse_ascii");
    let simulator = Simulator::new(settings, Clock::manual(again.wall));
    let told: Vec<_> = (0..2).map(|_| code(&simulator.answer(&again.call()).answer)).collect();
    assert_eq!(told, ["000000", "E000105"], "a nonce is good once");
}

#[test]
fn fields_and_limits_are_the_vendors() {
    let form = |from: &'static str, to: &'static str| {
        forged("aksk_ascii", move |it| {
            assert!(it.body.contains(from), "{}", it.body);
            it.body = it.body.replace(from, to);
        })
    };
    assert_eq!(form("to=%2B8613800138000", "to="), "E000503");
    assert_eq!(form("to=%2B8613800138000", "to=12"), "E000503");
    assert_eq!(form("to=%2B8613800138000", "to=%2B8613800138000,%2B8613800138000"), "E200041");
    assert_eq!(form("from=8824110605%2A%2A%2A", "from=1"), "E200018");
    assert_eq!(form("templateId=e1440a2b", "templateId=f1440a2b"), "E200030");
    assert_eq!(form("templateParas=%5B%22482913%22%5D", "templateParas=%5B482913%5D"), "E000503");
    assert_eq!(form("%5B%22482913%22%5D", "%5B%22http%3A%2F%2Fx%22%5D"), "E200028");
    assert_eq!(form("statusCallback=https", "statusCallback=ftp"), "E000503");
    let mut settings = Settings::default();
    settings.set(FROM).unwrap();
    let good = case("aksk_ascii");
    let clock = Clock::manual(good.wall);
    let simulator = Simulator::new(settings, clock.clone());
    let ask = || {
        let answer = simulator.answer(&good.call()).answer;
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        (body["code"].clone(), body["result"][0]["status"].clone())
    };
    assert_eq!((ask(), ask()), ((ok(), ok()), (ok(), ok())));
    assert_eq!(ask(), ("E000510".into(), "E200015".into()), "the same text twice in 59 s");
    clock.advance(60 * SECOND);
    assert_eq!(ask(), (ok(), ok()));
    let sent = simulator.desk.inbox(None, 1).remove(0);
    assert_eq!((sent.order.code.as_str(), sent.order.phone.e164()), ("482913", "+8613800138000"));
    assert_eq!(sent.order.callback.as_deref(), Some("https://otp.example.com/cb/hw"));
    let push = (crate::simulate::huawei::DIALECT.push.unwrap())(
        &simulator.settings.accounts["huawei"],
        &sent,
        "",
    );
    assert!(push.body.contains(&format!("smsMsgId={}&", sent.id)), "{}", push.body);
    assert!(push.body.contains("status=DELIVRD&") && push.body.ends_with("to=%2B8613800138000"));
}

fn ok() -> Value {
    "000000".into()
}
