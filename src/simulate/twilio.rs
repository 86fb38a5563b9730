//! Twilio from its own side: Messages under HTTP Basic, with the magic numbers of its test
//! credentials, and signed status callbacks. Verify is in `twilio_verify.rs`.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::call::{Answer, Asked, Call, Fields, Refusal, code_in, ensure, same};
use super::desk::{Desk, Order, Sent};
use super::push::Push;
use super::{Account, Dialect, Table, twilio_verify};
use crate::clock::Millis;
use crate::domain::phone::Phone;
use crate::providers::{signing, wire};

/// The most characters of a text.
const BODY_MAX: usize = 1600;
/// How long a message may wait, in seconds.
const VALIDITY: std::ops::RangeInclusive<u32> = 1..=36_000;
/// The numbers that test credentials are refused for, and with what.
const MAGIC: [(&str, &str); 5] = [
    ("+15005550001", "21211"),
    ("+15005550002", "21612"),
    ("+15005550003", "21408"),
    ("+15005550004", "21610"),
    ("+15005550009", "21614"),
];

pub(super) const DIALECT: Dialect = Dialect {
    name: "twilio",
    account: &[
        ("account_sid", "AC00000000000000000000000000000001"),
        ("auth_token", "fake0auth0token00000000000000001"),
        ("api_key_sid", "SK00000000000000000000000000000001"),
        ("api_key_secret", "fakeApiKeySecret0000000000000001"),
        ("from", "+15005550006"),
        ("messaging_service_sid", "MG00000000000000000000000000000001"),
        ("verify_service_sid", "VA00000000000000000000000000000001"),
    ],
    tables: &[
        Table {
            name: "twilio",
            path: "",
            settings: &["account_sid", "auth_token", "from"],
            more: "",
        },
        Table {
            name: "twilio-verify",
            path: "",
            settings: &["account_sid", "auth_token", "verify_service_sid"],
            more: "",
        },
    ],
    speaks: |call| call.path.starts_with("/2010-04-01/") || call.path.starts_with("/v2/Services/"),
    hear,
    each: false,
    id: |hex| format!("SM{hex}"),
    taken,
    refused,
    push: Some(push),
};

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    let (user, password) = call.basic().ok_or_else(|| denied("no HTTP Basic"))?;
    let with = |name: &str, secret: &str| {
        same(&user, account.get(name)) & same(&password, account.get(secret))
    };
    let known = with("account_sid", "auth_token") | with("api_key_sid", "api_key_secret");
    if !known {
        return Err(denied("the credentials are another account's"));
    }
    let parts: Vec<&str> = call.path.trim_start_matches('/').split('/').collect();
    match (call.method.as_str(), &parts[..]) {
        ("POST", ["2010-04-01", "Accounts", sid, "Messages.json"]) if ours(account, sid) => {
            create(account, desk, &form(call)?).map(|order| Asked::Send(vec![order]))
        }
        ("GET", ["2010-04-01", "Accounts", sid, "Messages.json"]) if ours(account, sid) => {
            Ok(Asked::Answer(list(account, desk, call)))
        }
        ("GET", ["2010-04-01", "Accounts", sid, "Messages", message]) if ours(account, sid) => {
            let wanted = message.trim_end_matches(".json");
            let found = desk.find(DIALECT.name, |sent| sent.id == wanted);
            let sent = found.first().ok_or_else(missing)?;
            Ok(Asked::Answer(Answer::json(200, &shown(account, sent, desk.clock.now()))))
        }
        (method, ["v2", "Services", service, rest @ ..])
            if *service == account.get("verify_service_sid") =>
        {
            let form = if method == "POST" { form(call)? } else { Fields(Vec::new()) };
            twilio_verify::hear(account, desk, method, rest, &form)
        }
        _ => Err(missing()),
    }
}

fn ours(account: &Account, sid: &str) -> bool {
    sid == account.get("account_sid")
}

fn denied(text: &'static str) -> Refusal {
    Refusal::coded(401, "20003".to_owned(), text)
}

pub(super) fn missing() -> Refusal {
    Refusal::coded(404, "20404".to_owned(), "there is no such resource here")
}

fn form(call: &Call) -> Result<Fields, Refusal> {
    let form = call.content_type().starts_with("application/x-www-form-urlencoded");
    ensure(form, "20001", "the body is a form")?;
    Ok(call.form())
}

fn create(account: &Account, desk: &Desk, form: &Fields) -> Result<Order, Refusal> {
    let (to, from, service) = (form.get("To"), form.get("From"), form.get("MessagingServiceSid"));
    ensure(!to.is_empty(), "21604", "To is missing")?;
    let phone = number(desk, to)?;
    ensure(!(from.is_empty() && service.is_empty()), "21603", "From is missing")?;
    let known = service == account.get("messaging_service_sid");
    ensure(service.is_empty() || known, "21703", "there is no such messaging service")?;
    let sender = !service.is_empty() || from == account.get("from");
    ensure(sender, "21606", "From is no number of this account")?;
    let text = form.get("Body");
    ensure(!text.is_empty(), "21619", "Body is missing")?;
    ensure(text.chars().count() <= BODY_MAX, "21617", "Body is longer than 1600 characters")?;
    let validity = form.get("ValidityPeriod");
    let fits = validity.is_empty() || validity.parse().is_ok_and(|it| VALIDITY.contains(&it));
    ensure(fits, "20001", "ValidityPeriod is 1 to 36000 seconds")?;
    let callback = form.get("StatusCallback");
    let url = callback.starts_with("http://") || callback.starts_with("https://");
    ensure(callback.is_empty() || url, "21609", "StatusCallback is no URL")?;
    let mut order = Order::new(phone, to, text.to_owned(), code_in(text));
    order.callback = Some(callback.to_owned()).filter(|url| !url.is_empty());
    let query = callback.split_once('?').map_or("", |(_, query)| query);
    Fields(wire::form(query)).get("reference").clone_into(&mut order.reference);
    Ok(order)
}

/// A number that this account reaches.
pub(super) fn number(desk: &Desk, to: &str) -> Result<Phone, Refusal> {
    if let Some((_, code)) = MAGIC.iter().find(|(magic, _)| *magic == to) {
        return Err(Refusal::new(code, "a magic number of the test credentials"));
    }
    let phone = Phone::from_e164(to).ok_or_else(|| Refusal::new("21211", "To is no number"))?;
    ensure(desk.is_registered(&phone), "21608", "a trial account, and To is not verified")?;
    Ok(phone)
}

fn shown(account: &Account, sent: &Sent, now: Millis) -> Value {
    let receipt = sent.receipt_by(now);
    let status = match receipt {
        None if sent.at == now => "queued",
        None => "sent",
        Some(due) if due.arrived => "delivered",
        Some(_) => "undelivered",
    };
    let code = receipt.filter(|due| !due.arrived).map(|due| due.code.parse().unwrap_or(30003));
    let sid = account.get("account_sid");
    json!({
        "sid": sent.id,
        "account_sid": sid,
        "api_version": "2010-04-01",
        "body": sent.order.text,
        "date_created": rfc2822(sent.wall),
        "date_sent": null,
        "date_updated": rfc2822(sent.wall),
        "direction": "outbound-api",
        "error_code": code,
        "error_message": null,
        "from": account.get("from"),
        "messaging_service_sid": null,
        "num_media": "0",
        "num_segments": crate::message::segments(&sent.order.text).to_string(),
        "price": null,
        "price_unit": "USD",
        "status": status,
        "subresource_uris": {},
        "to": sent.order.phone.e164(),
        "uri": format!("/2010-04-01/Accounts/{sid}/Messages/{}.json", sent.id),
    })
}

/// The latest messages, newest first; those to one number, if it is asked for.
fn list(account: &Account, desk: &Desk, call: &Call) -> Answer {
    let query = Fields(call.query_pairs());
    let (to, now) = (query.get("To"), desk.clock.now());
    let size = query.get("PageSize").parse().unwrap_or(50_usize).clamp(1, 1000);
    let under = call.under.as_deref().unwrap_or(DIALECT.name);
    let wanted =
        |sent: &Sent| sent.provider == under && (to.is_empty() || sent.order.written == to);
    let found = desk.find(DIALECT.name, wanted);
    let latest = found.iter().rev().filter(|sent| sent.id.starts_with("SM")).take(size);
    let latest: Vec<_> = latest.map(|sent| shown(account, sent, now)).collect();
    let list = json!({"messages": latest, "page": 0, "page_size": size, "uri": call.path});
    Answer::json(200, &list)
}

fn rfc2822(wall: Millis) -> String {
    wire::in_greenwich(wall, "%a, %d %b %Y %H:%M:%S +0000")
}

fn taken(account: &Account, call: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    match sent.first() {
        Some(Ok(sent)) if call.path.starts_with("/v2/") => {
            Answer::json(201, &twilio_verify::started(account, call, sent))
        }
        Some(Ok(sent)) => Answer::json(201, &shown(account, sent, sent.at)),
        Some(Err(refusal)) => refused(call, refusal),
        None => refused(call, &missing()),
    }
}

fn refused(_: &Call, refusal: &Refusal) -> Answer {
    let Refusal { status, code, text } = refusal;
    let status = match (*status, code.as_str()) {
        (0, "20003") => 401,
        (0, "20404") => 404,
        (0, "20429" | "60203" | "60202" | "63038") => 429,
        (0, "20403" | "60410") => 403,
        (0, _) => 400,
        (given, _) => given,
    };
    let number = code.parse::<u32>().map_or_else(|_| json!(code), |code| json!(code));
    let more = format!("https://www.twilio.com/docs/errors/{code}");
    let body = json!({"code": number, "message": text, "more_info": more, "status": status});
    Answer::json(status, &body)
}

/// A status callback, signed over its address and fields.
fn push(account: &Account, sent: &Sent, url: &str) -> Push {
    let receipt = sent.receipt.as_ref();
    let arrived = receipt.is_some_and(|due| due.arrived);
    let status = if arrived { "delivered" } else { "undelivered" };
    let error = receipt.filter(|due| !due.arrived).map(|due| match due.code.parse::<u32>() {
        Ok(code) => code.to_string(),
        Err(_) => "30003".to_owned(),
    });
    let mut fields = vec![
        ("AccountSid", account.get("account_sid").to_owned()),
        ("ApiVersion", "2010-04-01".to_owned()),
        ("From", account.get("from").to_owned()),
        ("MessageSid", sent.id.clone()),
        ("MessageStatus", status.to_owned()),
        ("SmsSid", sent.id.clone()),
        ("SmsStatus", status.to_owned()),
        ("To", sent.order.phone.e164().to_owned()),
    ];
    fields.extend(error.map(|code| ("ErrorCode", code)));
    fields.sort();
    let signed: Vec<_> = fields.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    let signed = signed.concat();
    let token = account.get("auth_token").as_bytes();
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token);
    let signature = BASE64.encode(hmac::sign(&key, format!("{url}{signed}").as_bytes()));
    let body = signing::query(fields.iter().map(|(name, value)| (*name, value.as_str())));
    let headers = vec![("x-twilio-signature", signature)];
    Push { kind: "application/x-www-form-urlencoded", headers, body }
}
