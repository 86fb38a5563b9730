//! Plivo from its own side: the Message API under HTTP Basic, and status callbacks, signed (V3).
//! A refusal is a status and prose.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::call::{Answer, Asked, Call, Fields, Refusal, code_in, ensure, same};
use super::desk::{Desk, Order, Sent, random_hex};
use super::push::Push;
use super::{Account, Dialect, Table};
use crate::clock::Millis;
use crate::domain::phone::Phone;
use crate::message;
use crate::providers::{signing, wire};

/// The most characters of a text, in the carriers' alphabet and in Unicode.
const TEXT_MAX: usize = 1600;
const UNICODE_MAX: usize = 737;
/// How long a message may wait, in seconds.
const EXPIRY: std::ops::RangeInclusive<u64> = 5..=10_799;

pub(super) const DIALECT: Dialect = Dialect {
    name: "plivo",
    account: &[
        ("auth_id", "MAFAKE0000000000001X"),
        ("auth_token", "fakeplivotoken00000000000000000001"),
        ("from", "+14155550100"),
    ],
    tables: &[Table {
        name: "plivo",
        path: "",
        settings: &["auth_id", "auth_token", "from"],
        more: "",
    }],
    speaks: |call| call.path.starts_with("/v1/Account/"),
    hear,
    each: true,
    id: uuid,
    taken,
    refused,
    push: Some(push),
};

fn uuid(hex: &str) -> String {
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    let (auth_id, token) = (account.get("auth_id"), account.get("auth_token"));
    let (user, password) = call.basic().unwrap_or_default();
    let known = same(&user, auth_id) & same(&password, token);
    ensure(known, "401", "the credentials are another account's")?;
    let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
    match (call.method.as_str(), &parts[..]) {
        ("POST", ["v1", "Account", id, "Message", ""]) if *id == auth_id => {
            create(account, desk, call).map(Asked::Send)
        }
        ("GET", ["v1", "Account", id, "Message", wanted, ""]) if *id == auth_id => {
            let found = desk.find(DIALECT.name, |sent| sent.id == *wanted);
            let sent = found.first().ok_or_else(missing)?;
            Ok(Asked::Answer(Answer::json(200, &shown(account, sent, desk.clock.now()))))
        }
        ("GET", ["v1", "Account", id, ""]) if *id == auth_id => {
            let body = json!({"auth_id": auth_id, "cash_credits": "10.28000", "name": "Acme"});
            Ok(Asked::Answer(Answer::json(200, &body)))
        }
        _ => Err(missing()),
    }
}

fn missing() -> Refusal {
    Refusal::new("404", "not found")
}

/// One order for each number.
fn create(account: &Account, desk: &Desk, call: &Call) -> Result<Vec<Order>, Refusal> {
    let bad = |holds: bool, text: &'static str| ensure(holds, "400", text);
    bad(call.content_type().starts_with("application/json"), "the body is JSON")?;
    let body: Value = serde_json::from_str(call.text()).unwrap_or_default();
    bad(body.is_object(), "the body is a JSON object")?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let (src, dst, content) = (text("src"), text("dst"), text("text"));
    bad(!src.is_empty() && !dst.is_empty() && !content.is_empty(), "src, dst or text is missing")?;
    bad(digits(src) == digits(account.get("from")), "src is no sender of this account")?;
    bad(or(text("type"), "sms") == "sms", "type is sms")?;
    let most = if message::is_gsm(content) { TEXT_MAX } else { UNICODE_MAX };
    bad(content.chars().count() <= most, "text is too long")?;
    bad(["true", "false"].contains(&or(text("log"), "true")), "log is true or false")?;
    let trackable = body.get("trackable").is_none_or(Value::is_boolean);
    bad(trackable, "trackable is a boolean")?;
    let expiry = body.get("message_expiry");
    let fits = |expiry: &Value| expiry.as_u64().is_some_and(|it| EXPIRY.contains(&it));
    bad(expiry.is_none_or(fits), "message_expiry is 5 to 10799 seconds")?;
    let (url, method) = (text("url"), or(text("method"), "POST"));
    let web = url.starts_with("http://") || url.starts_with("https://");
    bad(url.is_empty() || web, "url is no URL")?;
    bad(method == "POST", "method is POST here")?;
    let query = Fields(wire::form(url.split_once('?').map_or("", |(_, query)| query)));
    let order = |number: &str| {
        bad(digits(number) != digits(src), "dst is src")?;
        let phone = Phone::from_e164(&format!("+{}", digits(number)));
        let phone = phone.ok_or_else(|| Refusal::new("400", "dst is no number"))?;
        let registered = desk.is_registered(&phone);
        bad(registered, "a trial account, and dst is not verified")?;
        let mut order = Order::new(phone, number, content.to_owned(), code_in(content));
        order.callback = Some(url.to_owned()).filter(|url| !url.is_empty());
        query.get("reference").clone_into(&mut order.reference);
        Ok(order)
    };
    dst.split('<').map(order).collect()
}

fn or<'a>(given: &'a str, usual: &'a str) -> &'a str {
    if given.is_empty() { usual } else { given }
}

/// What is left of a number or a name once signs and spaces are taken away.
fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The state of a message and the code of a failure.
fn state(sent: &Sent, now: Millis) -> (&'static str, String) {
    match sent.receipt_by(now) {
        None if sent.at == now => ("queued", String::new()),
        None => ("sent", String::new()),
        Some(due) if due.arrived => ("delivered", "000".to_owned()),
        Some(due) => {
            let number = due.code.parse::<u16>().map(|code| code.to_string());
            ("undelivered", number.unwrap_or_else(|_| "80".to_owned()))
        }
    }
}

fn shown(account: &Account, sent: &Sent, now: Millis) -> Value {
    let (state, code) = state(sent, now);
    json!({
        "api_id": uuid(&random_hex()),
        "error_code": code,
        "from_number": digits(account.get("from")),
        "message_direction": "outbound",
        "message_state": state,
        "message_time": wire::in_greenwich(sent.wall, "%Y-%m-%d %H:%M:%S+00:00"),
        "message_type": "sms",
        "message_uuid": sent.id,
        "to_number": digits(&sent.order.written),
        "units": message::segments(&sent.order.text),
    })
}

fn taken(_: &Account, call: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    let names: Vec<_> = sent.iter().flatten().map(|sent| sent.id.as_str()).collect();
    if names.is_empty() {
        return refused(call, &Refusal::new("400", "no number was taken"));
    }
    let said = "message(s) queued";
    let api_id = uuid(&random_hex());
    Answer::json(202, &json!({"api_id": api_id, "message": said, "message_uuid": names}))
}

/// The vendor has no codes but the status; a script may name one that is none.
fn refused(_: &Call, refusal: &Refusal) -> Answer {
    let status = match refusal.status {
        0 => refusal.code.parse().ok().filter(|code| (400..600).contains(code)).unwrap_or(400),
        given => given,
    };
    Answer::json(status, &json!({"api_id": uuid(&random_hex()), "error": refusal.text}))
}

/// A status callback, signed over its address, its fields and a nonce.
fn push(account: &Account, sent: &Sent, url: &str) -> Push {
    let at = sent.receipt.as_ref().map_or(sent.at, |due| due.at);
    let (state, code) = state(sent, at);
    let mut fields = vec![
        ("From", digits(account.get("from"))),
        ("MessageUUID", sent.id.clone()),
        ("Status", state.to_owned()),
        ("To", digits(&sent.order.written)),
        ("Type", "sms".to_owned()),
        ("Units", message::segments(&sent.order.text).to_string()),
    ];
    if state == "undelivered" {
        fields.push(("ErrorCode", code));
    }
    fields.sort();
    let texts = fields.iter().flat_map(|(name, value)| [*name, value.as_str()]);
    let (texts, nonce) = (texts.collect::<Vec<_>>().concat(), random_hex());
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let mut query = wire::form(query);
    query.sort();
    let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = query.join("&");
    let dot = if query.is_empty() { "" } else { "." };
    let text = format!("{address}?{query}{dot}{texts}.{nonce}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, account.get("auth_token").as_bytes());
    let signature = BASE64.encode(hmac::sign(&key, text.as_bytes()));
    let body = signing::query(fields.iter().map(|(name, value)| (*name, value.as_str())));
    let headers = vec![("x-plivo-signature-v3", signature), ("x-plivo-signature-v3-nonce", nonce)];
    Push { kind: "application/x-www-form-urlencoded", headers, body }
}
