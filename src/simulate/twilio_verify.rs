//! Twilio Verify from its own side: it sends a code in its own words, the caller's own code where
//! one is given, and judges checks. Five starts in ten minutes, five checks for a verification.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Account;
use super::call::{Answer, Asked, Call, Fields, Refusal, ensure};
use super::desk::{Desk, Order, Sent, random_hex};
use super::twilio::{missing, number};
use crate::chance::OsChance;
use crate::clock::{MINUTE, Millis};
use crate::domain::code::Code;
use crate::providers::wire;

/// How long a verification lives.
const LIFE: Millis = 10 * MINUTE;
const STARTS_MAX: u32 = 5;
const CHECKS_MAX: u32 = 5;
/// Verifications that are remembered.
const KEPT_MAX: usize = 100_000;

/// The verifications of a simulator, by number.
#[derive(Default)]
pub(super) struct Verifications(HashMap<String, Verification>);

#[derive(Clone)]
struct Verification {
    sid: String,
    code: String,
    began: Millis,
    starts: u32,
    checks: u32,
    status: &'static str,
}

pub(super) fn hear(
    account: &Account,
    desk: &Desk,
    method: &str,
    rest: &[&str],
    form: &Fields,
) -> Result<Asked, Refusal> {
    match (method, rest) {
        ("GET", []) => {
            let sid = account.get("verify_service_sid");
            let service = json!({"sid": sid, "friendly_name": "Simulated", "code_length": 6});
            Ok(Asked::Answer(Answer::json(200, &service)))
        }
        ("POST", ["Verifications"]) => start(desk, form).map(|order| Asked::Send(vec![order])),
        ("POST", ["VerificationCheck"]) => check(account, desk, form).map(Asked::Answer),
        ("POST", ["Verifications", sid]) => report(account, desk, sid, form).map(Asked::Answer),
        _ => Err(missing()),
    }
}

fn start(desk: &Desk, form: &Fields) -> Result<Order, Refusal> {
    let to = form.get("To");
    let phone = number(desk, to).map_err(|refusal| match refusal.code.as_str() {
        "21211" => Refusal::new("60200", "To is no number"),
        _ => refusal,
    })?;
    let channel = form.get("Channel");
    ensure(["sms", "call", "whatsapp"].contains(&channel), "60200", "Channel is sms or call")?;
    let custom = form.get("CustomCode");
    let digits = (4..=10).contains(&custom.len()) && custom.bytes().all(|it| it.is_ascii_digit());
    ensure(custom.is_empty() || digits, "60200", "CustomCode is 4 to 10 digits")?;
    let now = desk.clock.now();
    let mut inner = desk.lock();
    let all = &mut inner.verifications.0;
    if all.len() > KEPT_MAX {
        all.retain(|_, known| now - known.began < LIFE);
    }
    let known = all.get_mut(phone.e164());
    let live = known.filter(|known| now - known.began < LIFE && known.status == "pending");
    let (sid, code) = if let Some(known) = live {
        ensure(known.starts < STARTS_MAX, "60203", "five starts in ten minutes")?;
        known.starts += 1;
        if !custom.is_empty() {
            custom.clone_into(&mut known.code);
        }
        (known.sid.clone(), known.code.clone())
    } else {
        let drawn = Code::draw(6, &mut OsChance).digits().to_owned();
        let code = if custom.is_empty() { drawn } else { custom.to_owned() };
        let (sid, starts, checks) = (format!("VE{}", random_hex()), 1, 0);
        let (named, kept) = (sid.clone(), code.clone());
        let fresh = Verification { sid, code: kept, began: now, starts, checks, status: "pending" };
        all.insert(phone.e164().to_owned(), fresh);
        (named, code)
    };
    let friendly = match form.get("CustomFriendlyName") {
        "" => "Simulated",
        name => name,
    };
    let text = format!("Your {friendly} verification code is: {code}");
    let mut order = Order::new(phone, to, text, code);
    order.reference = sid;
    Ok(order)
}

/// The verification as its start is answered.
pub(super) fn started(account: &Account, call: &Call, sent: &Sent) -> Value {
    let channel = call.form().get("Channel").to_owned();
    shown(account, &sent.order.reference, sent.order.phone.e164(), "pending", &channel, sent.wall)
}

fn shown(
    account: &Account,
    sid: &str,
    to: &str,
    status: &str,
    channel: &str,
    wall: Millis,
) -> Value {
    let at = wire::in_greenwich(wall, "%Y-%m-%dT%H:%M:%SZ");
    json!({
        "sid": sid,
        "service_sid": account.get("verify_service_sid"),
        "account_sid": account.get("account_sid"),
        "to": to,
        "channel": channel,
        "status": status,
        "valid": status == "approved",
        "lookup": {},
        "amount": null,
        "payee": null,
        "send_code_attempts": [],
        "date_created": at,
        "date_updated": at,
        "sna": null,
        "url": "",
    })
}

fn check(account: &Account, desk: &Desk, form: &Fields) -> Result<Answer, Refusal> {
    let (to, sid, code) = (form.get("To"), form.get("VerificationSid"), form.get("Code"));
    ensure(!code.is_empty(), "60200", "Code is missing")?;
    let (now, wall) = (desk.clock.now(), desk.clock.wall());
    let mut inner = desk.lock();
    let found = inner.verifications.0.iter_mut();
    let mut found = found.filter(|(phone, known)| *phone == to || known.sid == sid);
    let (phone, known) = found.next().ok_or_else(missing)?;
    let live = now - known.began < LIFE && known.status == "pending";
    if !live {
        return Err(missing());
    }
    ensure(known.checks < CHECKS_MAX, "60202", "five checks")?;
    known.checks += 1;
    if known.code == code {
        known.status = "approved";
    }
    Ok(Answer::json(201, &shown(account, &known.sid, phone, known.status, "sms", wall)))
}

/// What became of a code of the caller's own.
fn report(account: &Account, desk: &Desk, sid: &str, form: &Fields) -> Result<Answer, Refusal> {
    let status = match form.get("Status") {
        "approved" => "approved",
        "canceled" => "canceled",
        _ => return Err(Refusal::new("60200", "Status is approved or canceled")),
    };
    let wall = desk.clock.wall();
    let mut inner = desk.lock();
    let found = inner.verifications.0.iter_mut();
    let mut found = found.filter(|(phone, known)| *phone == sid || known.sid == sid);
    let (phone, known) = found.next().ok_or_else(missing)?;
    known.status = status;
    Ok(Answer::json(200, &shown(account, &known.sid, phone, status, "sms", wall)))
}
