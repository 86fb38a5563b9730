//! An endpoint of the `webhook` kind: signed as standard-webhooks does, each id taken once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::call::{Answer, Asked, Call, Refusal, code_in, ensure, same};
use super::desk::{Desk, Order, Sent, random_hex};
use super::push::Push;
use super::{Account, Dialect, Table};
use crate::clock::{MINUTE, Millis, SECOND};
use crate::domain::phone::Phone;
use crate::providers::signing;

/// How far a request's clock may be off.
const SKEW: Millis = 5 * MINUTE;

pub(super) const DIALECT: Dialect = Dialect {
    name: "webhook",
    account: &[("signing_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
    tables: &[Table {
        name: "webhook",
        path: "/webhook",
        settings: &["signing_secret"],
        more: "deduplicates = true\nbody = { phone = \"{phone}\", code = \"{code}\", \
               text = \"{text}\", reference = \"{reference}\" }\n",
    }],
    speaks: |call| call.path == "/webhook" || call.path.starts_with("/webhook/"),
    hear,
    each: false,
    id: |hex| format!("msg_{hex}"),
    taken,
    refused,
    push: Some(push),
};

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    if call.method == "HEAD" {
        return Ok(Asked::Answer(Answer::new(200, "application/json", String::new())));
    }
    let refusal = |status, text| Refusal::coded(status, "bad_request".to_owned(), text);
    if call.method != "POST" {
        return Err(refusal(405, "messages are posted"));
    }
    signed(account, desk.clock.wall(), call)?;
    let members = members(call).ok_or_else(|| refusal(400, "the body cannot be read"))?;
    let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = text("phone");
    let phone = Phone::from_e164(number);
    let phone = phone.ok_or_else(|| refusal(422, "`phone` is no E.164 number"))?;
    let code = match (text("code"), text("text")) {
        ("", "") => return Err(refusal(422, "neither `code` nor `text` is there")),
        ("", text) => code_in(text),
        (code, _) => code.to_owned(),
    };
    let registered = desk.is_registered(&phone);
    ensure(registered, "account_disabled", "not one of the test numbers")?;
    let shown = if text("text").is_empty() { &code } else { text("text") }.to_owned();
    let mut order = Order::new(phone, number, shown, code);
    let id = call.header("webhook-id");
    id.clone_into(&mut order.reference);
    order.once = Some((id.to_owned(), "duplicate"));
    Ok(Asked::Send(vec![order]))
}

fn members(call: &Call) -> Option<Map<String, Value>> {
    if call.content_type().starts_with("application/x-www-form-urlencoded") {
        let pairs = call.form().0.into_iter().map(|(name, value)| (name, value.into()));
        return Some(pairs.collect());
    }
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

fn signed(account: &Account, wall: Millis, call: &Call) -> Result<(), Refusal> {
    let denied = |text| Refusal::coded(401, "auth_failed".to_owned(), text);
    let (id, seconds) = (call.header("webhook-id"), call.header("webhook-timestamp"));
    let at = seconds.parse::<Millis>().ok().and_then(|at| at.checked_mul(SECOND));
    if at.is_none_or(|at| (wall - at).abs() > SKEW) {
        return Err(denied("webhook-timestamp is more than five minutes off"));
    }
    let ours = signature(account, id, seconds, &call.body);
    let given = call.header("webhook-signature");
    let good = !id.is_empty() && given.split(' ').any(|given| same(given, &ours));
    if good { Ok(()) } else { Err(denied("webhook-signature is another one")) }
}

fn signature(account: &Account, id: &str, seconds: &str, body: &[u8]) -> String {
    let secret = account.get("signing_secret");
    let key = secret.strip_prefix("whsec_").and_then(|key| BASE64.decode(key).ok());
    let text = [id.as_bytes(), b".", seconds.as_bytes(), b".", body].concat();
    format!("v1,{}", BASE64.encode(signing::hmac_sha256(&key.unwrap_or_default(), &text)))
}

fn taken(_: &Account, call: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    match sent.first() {
        Some(Ok(sent)) => Answer::json(200, &json!({"status": "accepted", "id": sent.id})),
        Some(Err(refusal)) => refused(call, refusal),
        None => refused(call, &Refusal::new("bad_request", "no number")),
    }
}

/// The code is a class, as `docs/providers.md` lists them.
fn refused(_: &Call, refusal: &Refusal) -> Answer {
    let Refusal { status, code, .. } = refusal;
    Answer::json(if *status == 0 { 200 } else { *status }, &json!({ "status": code }))
}

fn push(account: &Account, sent: &Sent, _: &str) -> Push {
    let receipt = sent.receipt.as_ref();
    let arrived = receipt.is_some_and(|due| due.arrived);
    let body = json!({
        "reference": sent.order.reference,
        "id": sent.id,
        "status": if arrived { "delivered" } else { "failed" },
        "code": receipt.map_or("", |due| &due.code),
    })
    .to_string();
    let wall = receipt.map_or(sent.wall, |due| sent.wall + (due.at - sent.at));
    let (id, seconds) = (format!("rcpt_{}", random_hex()), (wall / SECOND).to_string());
    let signature = signature(account, &id, &seconds, body.as_bytes());
    let headers =
        vec![("webhook-id", id), ("webhook-timestamp", seconds), ("webhook-signature", signature)];
    Push { kind: "application/json", headers, body }
}
