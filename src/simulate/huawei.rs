//! Huawei Cloud from its own side: a form, proven by a signature over its headers (AK/SK) or by
//! X-WSSE. The body is not signed unless its digest is among the headers.
//!
//! Its documents say what a code means, not which code comes first where several would do: headers
//! are judged before fields here, in the order in which they are listed there.

use serde_json::{Value, json};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::call::{Answer, Asked, Call, Refusal, ensure, has_link, same};
use super::desk::{Desk, NumberLimit, Order, Sent};
use super::push::Push;
use super::{Account, Dialect, Table};
use crate::clock::{DAY, MINUTE, Millis, SECOND};
use crate::domain::phone::Phone;
use crate::providers::signing::{self, Canonical};
use crate::providers::wire;

/// Where messages are handed over.
const PATH: &str = "/sms/batchSendSms/v1";
/// How far a request's clock may be off.
const SKEW: Millis = 15 * MINUTE;
/// The most numbers of a request.
const NUMBERS_MAX: usize = 500;
/// What stands for the digest of a body that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// "The message was taken", and "look at each number".
const SUCCESS: &str = "000000";
const SEE_ENTRIES: &str = "E000510";

pub(super) const DIALECT: Dialect = Dialect {
    name: "huawei",
    account: &[
        ("app_key", "c8RWg3ggEcyd4D3p94bf3Y7x1Ile"),
        ("app_secret", "q4Ii87BhST9vcs8wvrzN80SfD7Al"),
        ("from", "8824110605111"),
        ("signature", "华为云短信测试"),
        ("template_id", "e1440a2b13b54b06a3ec5e6ca5d4d5d9"),
        ("template_params", "1"),
    ],
    tables: &[
        Table {
            name: "huawei",
            path: "",
            settings: &["app_key", "app_secret", "from", "signature", "template_id"],
            more: "template_params = [\"code\"]",
        },
        Table {
            name: "huawei-wsse",
            path: "",
            settings: &["app_key", "app_secret", "from", "signature", "template_id"],
            more: "auth = \"wsse\"\ntemplate_params = [\"code\"]",
        },
    ],
    speaks: |call| call.path == PATH,
    hear,
    each: true,
    id: |hex| format!("{}-{}_{}", &hex[..8], &hex[8..20], &hex[20..]),
    taken,
    refused,
    push: Some(push),
};

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    ensure(call.method == "POST", "E000503", "only POST is known here")?;
    let form = call.content_type().starts_with("application/x-www-form-urlencoded");
    let authorization = call.authorization();
    ensure(!authorization.is_empty(), "E000001", "Authorization is missing")?;
    if let Some(given) = authorization.strip_prefix("SDK-HMAC-SHA256 ") {
        signed(account, desk.clock.wall(), call, given)?;
    } else {
        let realm = authorization.strip_prefix("WSSE ");
        let realm =
            realm.ok_or_else(|| Refusal::new("E000002", "neither SDK-HMAC-SHA256 nor WSSE"))?;
        for (code, part) in [
            ("E000003", "realm=\"SDP\""),
            ("E000004", "profile=\"UsernameToken\""),
            ("E000005", "type=\"Appkey\""),
        ] {
            ensure(
                realm.split(',').any(|it| it.trim() == part),
                code,
                "a part of WSSE is missing",
            )?;
        }
        wsse(account, desk, call.header("x-wsse"))?;
    }
    ensure(form, "E000040", "the content type is application/x-www-form-urlencoded")?;
    orders(account, call).map(Asked::Send)
}

/// Judges `Access=…, SignedHeaders=…, Signature=…`.
fn signed(account: &Account, wall: Millis, call: &Call, given: &str) -> Result<(), Refusal> {
    let part = |name: &str| {
        let mut parts = given.split(',').filter_map(|part| part.trim().split_once('='));
        let found = parts.find(|(known, _)| *known == name).map(|(_, value)| value);
        found.ok_or_else(|| Refusal::new("E000006", "Authorization lacks a part"))
    };
    let (key, names, signature) = (part("Access")?, part("SignedHeaders")?, part("Signature")?);
    ensure(same(key, account.get("app_key")), "E000102", "there is no such key")?;
    let stamp = call.header("x-sdk-date");
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok();
    fresh(at, wall)?;
    let listed: Vec<&str> = names.split(';').collect();
    let all = ["host", "x-sdk-date"].iter().all(|name| listed.contains(name));
    ensure(all && listed.is_sorted(), "E000045", "a header that has to be signed is not")?;
    let digest = signing::sha256_hex(&call.body);
    let payload = match call.header("x-sdk-content-sha256") {
        "" => digest.as_str(),
        given if given == UNSIGNED || given == digest => given,
        _ => return Err(Refusal::new("E000045", "the body's digest is another one")),
    };
    let canonical = Canonical {
        method: &call.method,
        // The vendor signs the path with a slash behind it.
        path: &format!("{}/", call.whole_path.trim_end_matches('/')),
        query: &call.sorted_query(),
        headers: &call.signed(names),
        payload,
    };
    let to_sign = format!("SDK-HMAC-SHA256\n{stamp}\n{}", canonical.digest());
    let secret = account.get("app_secret").as_bytes();
    let ours = hex::encode(signing::hmac_sha256(secret, to_sign.as_bytes()));
    ensure(same(&ours, signature), "E000045", "the signature is another one")
}

/// Judges `UsernameToken Username="…",PasswordDigest="…",Nonce="…",Created="…"`.
fn wsse(account: &Account, desk: &Desk, given: &str) -> Result<(), Refusal> {
    ensure(!given.is_empty(), "E000020", "X-WSSE is missing")?;
    let given = given.strip_prefix("UsernameToken ");
    let given = given.ok_or_else(|| Refusal::new("E000021", "X-WSSE is no UsernameToken"))?;
    let part = |name: &str, code: &str| {
        let mut parts = given.split(',').filter_map(|part| part.trim().split_once('='));
        let found = parts.find(|(known, _)| *known == name).map(|(_, value)| value);
        let found = found.and_then(|value| value.strip_prefix('"')?.strip_suffix('"'));
        found.filter(|it| !it.is_empty()).ok_or_else(|| Refusal::new(code, "a part is missing"))
    };
    let key = part("Username", "E000022")?;
    let digest = part("PasswordDigest", "E000023")?;
    let (nonce, created) = (part("Nonce", "E000024")?, part("Created", "E000025")?);
    ensure(same(key, account.get("app_key")), "E000102", "there is no such key")?;
    fresh(jiff::civil::DateTime::strptime("%Y-%m-%dT%H:%M:%SZ", created).ok(), desk.clock.wall())?;
    let text = format!("{nonce}{created}{}", account.get("app_secret"));
    let hex = signing::sha256_hex(text.as_bytes());
    let raw = BASE64.encode(hex::decode(&hex).unwrap_or_default());
    // The documents' older examples encode the digits, their newer ones the bytes.
    let good = same(digest, &raw) | same(digest, &BASE64.encode(&hex));
    ensure(good, "E000105", "the digest of the password is another one")?;
    ensure(desk.is_new(&format!("huawei {nonce}")), "E000105", "this nonce was used before")
}

fn fresh(at: Option<jiff::civil::DateTime>, wall: Millis) -> Result<(), Refusal> {
    let at = at.and_then(|at| jiff::tz::Offset::UTC.to_timestamp(at).ok());
    let apart = at.map(|at| (wall - at.as_millisecond()).abs());
    ensure(apart.is_some_and(|it| it <= SKEW), "E000110", "the time is more than 15 minutes off")
}

fn orders(account: &Account, call: &Call) -> Result<Vec<Order>, Refusal> {
    let form = call.form();
    let (to, template) = (form.get("to"), form.get("templateId"));
    ensure(!to.is_empty() && !template.is_empty(), "E000503", "to or templateId is missing")?;
    let numbers: Vec<&str> = to.split(',').collect();
    ensure(numbers.len() <= NUMBERS_MAX, "E000503", "more than 500 numbers")?;
    let mut seen = numbers.clone();
    seen.sort_unstable();
    seen.dedup();
    ensure(seen.len() == numbers.len(), "E200041", "the same number twice")?;
    ensure(form.get("from") == account.get("from"), "E200018", "the channel is another one")?;
    ensure(template == account.get("template_id"), "E200030", "there is no such template")?;
    let signature = form.get("signature");
    let ours = signature.is_empty() || signature == account.get("signature");
    ensure(ours, "E200018", "the signature is another one")?;
    let given = form.get("templateParas");
    let values = if given.is_empty() { Ok(Vec::new()) } else { serde_json::from_str(given) };
    let values: Vec<String> =
        values.map_err(|_| Refusal::new("E000503", "templateParas is no list of texts"))?;
    let wanted = account.get("template_params").parse().unwrap_or(1);
    let fit = values.len() == wanted && values.iter().all(|value| fits(value));
    ensure(fit, "E200028", "the variables do not fit the template")?;
    let extend = form.get("extend");
    ensure(extend.len() <= 128, "E000503", "extend is at most 128 characters")?;
    let callback = form.get("statusCallback");
    let url = callback.starts_with("http://") || callback.starts_with("https://");
    ensure(callback.is_empty() || url, "E000503", "statusCallback is no URL")?;
    let code = values.first().cloned().unwrap_or_default();
    let text = format!("【{}】{}", account.get("signature"), values.join(", "));
    let order = |number: &&str| {
        let phone = Phone::from_e164(number).or_else(|| super::call::mainland(number));
        let phone = phone.ok_or_else(|| Refusal::new("E000503", "a number is not E.164"))?;
        let mut order = Order::new(phone, number, text.clone(), code.clone());
        extend.clone_into(&mut order.reference);
        order.callback = Some(callback.to_owned()).filter(|url| !url.is_empty());
        let key = format!("{} {given}", order.phone.e164());
        let limit = |key: &str, most, length| {
            let key = key.to_owned();
            NumberLimit { key, most, length, code: "E200015" }
        };
        order.limits = vec![
            limit(&key, 2, 59 * SECOND),
            limit(order.phone.e164(), 15, MINUTE),
            limit(order.phone.e164(), 50, DAY),
        ];
        Ok(order)
    };
    numbers.iter().map(order).collect()
}

/// A variable of a template for codes: short, and no link.
fn fits(value: &str) -> bool {
    (1..=20).contains(&value.chars().count()) && !has_link(value) && !value.contains(['【', '】'])
}

fn taken(account: &Account, _: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    let refused = sent.iter().any(Result::is_err);
    let entry = |sent: &Result<Sent, Refusal>| match sent {
        Ok(sent) => json!({
            "originTo": sent.order.written,
            "createTime": wire::in_greenwich(sent.wall, "%Y-%m-%dT%H:%M:%SZ"),
            "from": account.get("from"),
            "smsMsgId": sent.id,
            "status": SUCCESS,
        }),
        Err(refusal) => json!({ "status": refusal.code }),
    };
    let (code, description) =
        if refused { (SEE_ENTRIES, "look at each number") } else { (SUCCESS, "Success") };
    let result: Vec<Value> = sent.iter().map(entry).collect();
    Answer::json(200, &json!({ "code": code, "description": description, "result": result }))
}

fn refused(_: &Call, refusal: &Refusal) -> Answer {
    let status = match (refusal.status, refusal.code.as_str()) {
        (0, code) if code.starts_with("E0000") || code.starts_with("E0001") => 401,
        (0, "E000503") => 400,
        (0, _) => 200,
        (status, _) => status,
    };
    Answer::json(status, &json!({ "code": refusal.code, "description": refusal.text }))
}

/// A status report: a form, unsigned, as the vendor pushes it.
fn push(_: &Account, sent: &Sent, _: &str) -> Push {
    let receipt = sent.receipt.as_ref();
    let status = receipt.map_or("", |due| due.code.as_str());
    let updated = wire::in_greenwich(sent.wall, "%Y-%m-%dT%H:%M:%SZ");
    let body = signing::query([
        ("smsMsgId", sent.id.as_str()),
        ("total", "1"),
        ("sequence", "1"),
        ("status", status),
        ("source", "2"),
        ("updateTime", &updated),
        ("extend", &sent.order.reference),
        ("to", &sent.order.written),
    ]);
    Push { kind: "application/x-www-form-urlencoded", headers: Vec::new(), body }
}
