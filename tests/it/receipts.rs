//! Receipts that providers push: who may, what they hear, and that strangers change nothing.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::StatusCode;

use crate::world::World;

const TOKEN: &str = "fake0auth0token00000000000000001";
const PROVIDERS: &str = r#"
[[providers]]
name = "ali"
kind = "aliyun"
base_url = "http://127.0.0.1:9"
access_key_id = "LTAI5tFakeKeyId00000001"
access_key_secret = "FakeSecretFakeSecretFakeSecret"
sign_name = "TestSign"
template_code = "SMS_71390007"
[[providers]]
name = "tw"
kind = "twilio"
base_url = "http://127.0.0.1:9"
account_sid = "AC00000000000000000000000000000001"
auth_token = "fake0auth0token00000000000000001"
from = "+15005550006"
[[providers]]
name = "pl"
kind = "plivo"
base_url = "http://127.0.0.1:9"
auth_id = "MAFAKE0000000000001X"
auth_token = "fake0auth0token00000000000000001"
from = "+14155550100"
"#;

/// Where each provider pushes to, as the command line tells.
fn addresses(world: &World) -> Vec<String> {
    let told =
        world.command(&["keys", "--config", "countersign.toml", "receipts"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    told.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn each_provider_hears_what_it_wants_and_only_a_signed_push_of_a_signing_one_is_taken() {
    let world = World::start(PROVIDERS).await;
    let addresses = addresses(&world);
    let [aliyun, twilio, plivo] = &addresses[..] else { panic!("{addresses:?}") };

    let pushed = r#"[{"out_id":"00","biz_id":"1^0","success":true,"err_code":"DELIVERED"}]"#;
    let answer = world.client.post(aliyun).body(pushed).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "unknown, and nothing is changed");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.text().await.unwrap(), r#"{"code":0,"msg":"OK"}"#);

    let url = format!("{twilio}?reference=00");
    let form = [("MessageSid", "SM1"), ("MessageStatus", "delivered")];
    let signed = format!("{url}MessageSidSM1MessageStatusdelivered");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TOKEN.as_bytes());
    let signature = BASE64.encode(hmac::sign(&key, signed.as_bytes()));
    for (signature, expected) in [
        (signature.as_str(), StatusCode::OK),
        ("", StatusCode::NOT_FOUND),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8=", StatusCode::NOT_FOUND),
    ] {
        let push = world.client.post(&url).form(&form).header("x-twilio-signature", signature);
        assert_eq!(push.send().await.unwrap().status(), expected, "{signature}");
    }
    let elsewhere = url.replace("/tw/", "/ali/");
    let push = world.client.post(&elsewhere).form(&form).send().await.unwrap();
    assert_eq!(push.status(), StatusCode::NOT_FOUND, "the secret is another provider's");

    let url = format!("{plivo}?reference=00");
    let form = [("Status", "delivered"), ("MessageUUID", "m-1")];
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN.as_bytes());
    let signed = format!("{url}.MessageUUIDm-1Statusdelivered.nonce-1");
    let signature = BASE64.encode(hmac::sign(&key, signed.as_bytes()));
    for (nonce, expected) in [("nonce-1", StatusCode::OK), ("nonce-2", StatusCode::NOT_FOUND)] {
        let push = world.client.post(&url).form(&form);
        let push = push.header("x-plivo-signature-v3", &signature);
        let push = push.header("x-plivo-signature-v3-nonce", nonce);
        assert_eq!(push.send().await.unwrap().status(), expected, "{nonce}");
    }

    let metrics = world.get("/metrics").send().await.unwrap().text().await.unwrap();
    for (provider, outcome, count) in [
        ("ali", "ignored", 1),
        ("tw", "ignored", 1),
        ("tw", "forged", 2),
        ("pl", "ignored", 1),
        ("pl", "forged", 1),
    ] {
        let line = format!(
            "countersign_receipts_total{{provider=\"{provider}\",outcome=\"{outcome}\"}} {count}"
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}
