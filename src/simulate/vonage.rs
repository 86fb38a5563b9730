//! Vonage from its own side: HTTP Basic, or key and secret in the form, or a signature over it.
//! Everything is HTTP 200 with a status per message.

use std::collections::BTreeMap;

use serde_json::json;

use super::call::{Answer, Asked, Call, Fields, Refusal, code_in, ensure, same};
use super::desk::{Desk, Order, Sent};
use super::push::Push;
use super::{Account, Dialect, Table};
use crate::clock::{MINUTE, Millis, SECOND};
use crate::domain::phone::Phone;
use crate::message;
use crate::providers::{signing, wire};

/// How far a signed request's clock may be off.
const SKEW: Millis = 5 * MINUTE;
/// The most characters of a text, and of the sender's name for it.
const TEXT_MAX: usize = 3200;
const REFERENCE_MAX: usize = 100;

pub(super) const DIALECT: Dialect = Dialect {
    name: "vonage",
    account: &[
        ("api_key", "abcd1234"),
        ("api_secret", "FakeSecret000001"),
        ("signature_secret", "FakeSignatureSecret0000000000001"),
        ("from", "AcmeInc"),
    ],
    tables: &[Table {
        name: "vonage",
        path: "",
        settings: &["api_key", "api_secret", "signature_secret", "from"],
        more: "",
    }],
    speaks: |call| ["/sms/json", "/account/get-balance"].contains(&call.path.as_str()),
    hear,
    each: false,
    id: |hex| hex[..17].to_uppercase(),
    taken,
    refused,
    push: Some(push),
};

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    let form = if call.method == "POST" { call.form() } else { Fields(call.query_pairs()) };
    let known = signed(account, desk.clock.wall(), call, &form);
    if call.path == "/account/get-balance" {
        known.map_err(|_| Refusal::coded(401, "4".to_owned(), "wrong credentials"))?;
        let balance = json!({"value": 10.28, "autoReload": false});
        return Ok(Asked::Answer(Answer::json(200, &balance)));
    }
    known?;
    send(account, desk, &form).map(|order| Asked::Send(vec![order]))
}

fn signed(account: &Account, wall: Millis, call: &Call, form: &Fields) -> Result<(), Refusal> {
    let (key, secret) = (account.get("api_key"), account.get("api_secret"));
    if let Some((user, password)) = call.basic() {
        return ensure(same(&user, key) & same(&password, secret), "4", "wrong credentials");
    }
    ensure(same(form.get("api_key"), key), "4", "no such key")?;
    let sig = form.get("sig");
    if sig.is_empty() {
        return ensure(same(form.get("api_secret"), secret), "4", "wrong secret");
    }
    ensure(form.get("api_secret").is_empty(), "32", "a signature and a secret")?;
    let at = form.get("timestamp").parse::<Millis>().ok().map(|at| at * SECOND);
    let fresh = at.is_some_and(|at| (wall - at).abs() <= SKEW);
    ensure(fresh, "14", "the time is more than five minutes off")?;
    let fields = form.0.iter().cloned().collect();
    let ours = signature(account.get("signature_secret"), &fields);
    ensure(same(&ours, &sig.to_ascii_lowercase()), "14", "the signature is another one")
}

/// The signature over fields: `&name=value` in the names' order, `_` for what would part them.
fn signature(secret: &str, fields: &BTreeMap<String, String>) -> String {
    let signed = fields.iter().filter(|(name, _)| *name != "sig");
    let pairs = signed.map(|(name, value)| format!("&{name}={}", value.replace(['&', '='], "_")));
    let text = pairs.collect::<Vec<_>>().concat();
    hex::encode(signing::hmac_sha256(secret.as_bytes(), text.as_bytes()))
}

fn send(account: &Account, desk: &Desk, form: &Fields) -> Result<Order, Refusal> {
    let (to, from, text) = (form.get("to"), form.get("from"), form.get("text"));
    let all = !to.is_empty() && !from.is_empty() && !text.is_empty();
    ensure(all, "2", "to, from or text is missing")?;
    let plain = !to.starts_with('+') && !to.starts_with("00");
    let phone = Phone::from_e164(&format!("+{to}")).filter(|_| plain);
    let phone = phone.ok_or_else(|| Refusal::new("3", "to is digits with the country's code"))?;
    ensure(desk.is_registered(&phone), "29", "not on the trial account's list")?;
    ensure(from == account.get("from"), "15", "the sender is not allowed")?;
    ensure(text.chars().count() <= TEXT_MAX, "12", "the text is too long")?;
    let kind = form.get("type");
    ensure(["", "text", "unicode"].contains(&kind), "3", "type is text or unicode")?;
    let reference = form.get("client-ref");
    ensure(reference.len() <= REFERENCE_MAX, "3", "client-ref is at most 100 characters")?;
    let callback = form.get("callback");
    let url = callback.starts_with("http://") || callback.starts_with("https://");
    ensure(callback.is_empty() || url, "23", "the callback is no URL")?;
    // What is not said to be Unicode goes out in the carriers' alphabet.
    let known = |letter: char| message::is_gsm(letter.encode_utf8(&mut [0; 4]));
    let shown = if kind == "unicode" {
        text.to_owned()
    } else {
        text.chars().map(|letter| if known(letter) { letter } else { '?' }).collect()
    };
    let code = code_in(&shown);
    let mut order = Order::new(phone, to, shown, code);
    reference.clone_into(&mut order.reference);
    order.callback = Some(callback.to_owned()).filter(|url| !url.is_empty());
    Ok(order)
}

fn taken(_: &Account, call: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    match sent.first() {
        Some(Ok(sent)) => Answer::json(
            200,
            &json!({
                "message-count": "1",
                "messages": [{
                    "to": sent.order.written,
                    "message-id": sent.id,
                    "status": "0",
                    "remaining-balance": "3.14159265",
                    "message-price": "0.03330000",
                    "network": "12345",
                    "client-ref": sent.order.reference,
                }],
            }),
        ),
        Some(Err(refusal)) => refused(call, refusal),
        None => refused(call, &Refusal::new("2", "no number")),
    }
}

fn refused(_: &Call, refusal: &Refusal) -> Answer {
    let Refusal { status, code, text } = refusal;
    if *status == 401 {
        let body = json!({"error-code": "401", "error-code-label": "authentication failed"});
        return Answer::json(401, &body);
    }
    let entry = json!({"status": code, "error-text": text});
    let body = json!({"message-count": "1", "messages": [entry]});
    Answer::json(if *status == 0 { 200 } else { *status }, &body)
}

/// A delivery receipt, signed as the account is set up.
fn push(account: &Account, sent: &Sent, _: &str) -> Push {
    let receipt = sent.receipt.as_ref();
    let arrived = receipt.is_some_and(|due| due.arrived);
    let error = match receipt.map_or("", |due| &due.code) {
        _ if arrived => "0",
        code if code.bytes().all(|byte| byte.is_ascii_digit()) => code,
        _ => "1",
    };
    let stamp = wire::in_greenwich(sent.wall, "%y%m%d%H%M");
    let mut fields = BTreeMap::from([
        ("api-key".to_owned(), account.get("api_key").to_owned()),
        ("client-ref".to_owned(), sent.order.reference.clone()),
        ("err-code".to_owned(), error.to_owned()),
        ("message-timestamp".to_owned(), wire::in_greenwich(sent.wall, "%Y-%m-%d %H:%M:%S")),
        ("messageId".to_owned(), sent.id.clone()),
        ("msisdn".to_owned(), sent.order.written.clone()),
        ("network-code".to_owned(), "12345".to_owned()),
        ("price".to_owned(), "0.03330000".to_owned()),
        ("scts".to_owned(), stamp),
        ("status".to_owned(), if arrived { "delivered" } else { "failed" }.to_owned()),
        ("timestamp".to_owned(), (sent.wall / SECOND).to_string()),
        ("to".to_owned(), account.get("from").to_owned()),
    ]);
    let sig = signature(account.get("signature_secret"), &fields);
    fields.insert("sig".to_owned(), sig);
    let body = signing::query(fields.iter().map(|(name, value)| (&**name, &**value)));
    Push { kind: "application/x-www-form-urlencoded", headers: Vec::new(), body }
}
