//! The token, checked by a library that is not ours: Debian's own `PyJWT`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::world::{USUAL, World, body, mobile};

/// Checks a token as an application would, by the published keys.
const CHECK: &str = r#"
import json, sys
try:
    import jwt, cryptography
except ImportError as error:
    sys.exit(f"apt-get install python3-jwt python3-cryptography ({error})")
given = json.load(sys.stdin)
keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(given["jwks"]).keys}
try:
    header = jwt.get_unverified_header(given["token"])
    key = keys[header["kid"]].key
    claims = jwt.decode(given["token"], key, algorithms=["EdDSA"], audience=given["audience"],
                        issuer=given["issuer"], options={"require": ["exp", "iat", "sub", "jti"]})
    print(json.dumps({"claims": claims, "header": header}))
except Exception as error:
    print(json.dumps({"error": type(error).__name__}))
"#;

/// What the other library says about a token.
fn checked(world: &World, jwks: &Value, token: &str, audience: &str) -> Value {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", CHECK]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().expect("this test needs /usr/bin/python3 (Debian's own)");
    let issuer = world.url("");
    let given = json!({"jwks": jwks, "token": token, "audience": audience, "issuer": issuer});
    // A child that ended early has said why; that it did not read is no news.
    let _ = python.stdin.take().unwrap().write_all(given.to_string().as_bytes());
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn jwks(world: &World) -> Value {
    let answer = world.get("/.well-known/jwks.json").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    body(answer).await
}

fn kids(jwks: &Value) -> Vec<String> {
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Proves control of a phone for this tenant (a server of the bank needs a challenge, too).
async fn prove(world: &World, key: &str, phone: &str) -> String {
    let minted = body(world.post(key, "/v1/challenges", &json!({})).send().await.unwrap()).await;
    let id = minted["id"].as_str().unwrap();
    let answer = body(world.get(&format!("/dev/challenges/{id}")).send().await.unwrap()).await;
    let challenge = json!({"id": id, "answer": answer["answer"]});
    let wish = json!({"phone": phone, "challenge": challenge});
    let started = world.post(key, "/v1/verifications", &wish).send().await.unwrap();
    assert_eq!(started.status(), StatusCode::CREATED, "{}", body(started).await);
    let path = format!("/v1/verifications/{}/check", body(started).await["id"].as_str().unwrap());
    let code = json!({"code": world.code(phone).await});
    let approved = body(world.post(key, &path, &code).send().await.unwrap()).await;
    approved["token"].as_str().unwrap_or_else(|| panic!("{approved}")).to_owned()
}

/// Lets the server forget all records, so that no limit is left, but not the keys. The lock goes,
/// too: the server asks for that where a store is given up on purpose.
async fn forget(world: &mut World) {
    world.kill();
    for ending in ["", "-wal", "-shm", ".lock"] {
        let file = format!("{}{ending}", world.store().display());
        let _ = std::fs::remove_file(file);
    }
    world.restart().await;
}

/// The token with other claims under the same signature, or with another header and none.
fn forged(token: &str, header: Option<&Value>, change: impl Fn(&mut Value)) -> String {
    let [head, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("a JWT has three parts")
    };
    let mut claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    change(&mut claims);
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    match header {
        Some(header) => format!("{}.{claims}.", URL_SAFE_NO_PAD.encode(header.to_string())),
        None => format!("{head}.{claims}.{signature}"),
    }
}

#[tokio::test]
async fn a_good_token_says_who_proved_what_to_whom() {
    let world = World::start(USUAL).await;
    let phone = format!("+86{}", mobile(180, 1));
    let token = prove(&world, "sk_shop_secret", &phone).await;
    let said = checked(&world, &jwks(&world).await, &token, "shop");
    let claims = &said["claims"];
    assert!(said["error"].is_null(), "{said}");
    assert_eq!(claims["aud"], "shop");
    assert_eq!(claims["phone_number"], phone.as_str());
    assert_eq!(claims["phone_number_verified"], true);
    assert_eq!(claims["amr"], json!(["sms"]));
    assert_eq!(claims["purpose"], "login");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert!(!claims["sub"].as_str().unwrap().contains(&phone[3..]), "the name tells no number");
    assert!(!claims["jti"].as_str().unwrap().is_empty());
    assert_eq!(said["header"]["alg"], "EdDSA");
}

#[tokio::test]
async fn another_token_is_refused() {
    let world = World::start(USUAL).await;
    let phone = format!("+86{}", mobile(181, 1));
    let token = prove(&world, "sk_shop_secret", &phone).await;
    let jwks = jwks(&world).await;
    let error =
        |token: &str, audience: &str| checked(&world, &jwks, token, audience)["error"].clone();
    assert!(error(&token, "shop").is_null());
    assert_eq!(error(&token, "bank"), "InvalidAudienceError");
    let other_phone =
        forged(&token, None, |claims| claims["phone_number"] = "+8613800138000".into());
    assert_eq!(error(&other_phone, "shop"), "InvalidSignatureError");
    let longer = forged(&token, None, |claims| claims["exp"] = 99_999_999_999_i64.into());
    assert_eq!(error(&longer, "shop"), "InvalidSignatureError");
    let header = json!({"typ": "JWT", "alg": "none", "kid": kids(&jwks)[0]});
    let unsigned = forged(&token, Some(&header), |_| {});
    assert_eq!(error(&unsigned, "shop"), "InvalidAlgorithmError");
}

#[tokio::test]
async fn a_person_has_one_name_per_tenant() {
    let mut world = World::start(USUAL).await;
    let phone = format!("+86{}", mobile(182, 1));
    let other = format!("+86{}", mobile(182, 2));
    let mut subjects = Vec::new();
    let turns = [
        ("sk_shop_secret", "shop", &phone),
        ("sk_shop_secret", "shop", &phone),
        ("sk_bank_secret", "bank", &phone),
        ("sk_shop_secret", "shop", &other),
    ];
    for (key, tenant, phone) in turns {
        let token = prove(&world, key, phone).await;
        let said = checked(&world, &jwks(&world).await, &token, tenant);
        subjects
            .push(said["claims"]["sub"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned());
        forget(&mut world).await;
    }
    assert_eq!(subjects[0], subjects[1], "the same person at the same tenant");
    assert_ne!(subjects[0], subjects[2], "two tenants cannot compare notes");
    assert_ne!(subjects[0], subjects[3], "another person");
}

#[tokio::test]
async fn a_rotated_key_is_taken_up_and_old_tokens_stay_good() {
    let world = World::start(USUAL).await;
    let old = prove(&world, "sk_shop_secret", &format!("+86{}", mobile(183, 1))).await;
    let before = kids(&jwks(&world).await);
    let rotated = world
        .command(&["keys", "rotate", "token", "--config", "countersign.toml"])
        .output()
        .unwrap();
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    let began = Instant::now();
    let after = loop {
        let now = jwks(&world).await;
        if kids(&now) != before {
            break now;
        }
        assert!(began.elapsed() < Duration::from_secs(6), "not taken up\n{}", world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(kids(&after)[1..], before, "the new key comes first, the old one is still there");
    let new = prove(&world, "sk_shop_secret", &format!("+86{}", mobile(183, 2))).await;
    let (old, new) = (checked(&world, &after, &old, "shop"), checked(&world, &after, &new, "shop"));
    assert_eq!(old["header"]["kid"], before[0].as_str(), "{old}");
    assert!(old["error"].is_null() && new["error"].is_null(), "{old} {new}");
    assert_eq!(new["header"]["kid"], kids(&after)[0].as_str());
}
