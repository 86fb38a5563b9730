//! 容联云通讯 from its own side: MD5 signatures over account, token and a time of the last day, a
//! test template that takes digits and reaches registered numbers only, and a send key (`reqId`)
//! that is taken once a day. Classic clients' JSON, which is none, is read like the vendor does;
//! so is XML.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use md5::{Digest, Md5};
use serde_json::{Value, json};

use super::call::{Answer, Asked, Call, Refusal, code_in, ensure, mainland, same};
use super::desk::{Desk, Order, Sent};
use super::push::Push;
use super::{Account, Dialect, Table};
use crate::clock::{DAY, Millis};
use crate::providers::wire::{self, element};

/// Numbers of a request.
const NUMBERS_MAX: usize = 200;
/// Receipts that are given at once.
const RECEIPTS_MAX: usize = 500;
const NO_RECEIPT_YET: &str = "112356";
const TEST_TEMPLATE: &str = "1";

pub(super) const DIALECT: Dialect = Dialect {
    name: "yuntongxun",
    account: &[
        ("account_sid", "8a48b5515493a1b7015498c52ade0000"),
        ("auth_token", "c4e1c9418e5e4921bbd120598e030000"),
        ("app_id", "aaf98f8954939ed501549e768a470000"),
        ("template_id", TEST_TEMPLATE),
    ],
    tables: &[Table {
        name: "yuntongxun",
        path: "",
        settings: &["account_sid", "auth_token", "app_id", "template_id"],
        more: "",
    }],
    speaks: |call| call.path.starts_with("/2013-12-26/"),
    hear,
    each: false,
    id: str::to_owned,
    taken,
    refused,
    push: Some(push),
};

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    let parts: Vec<&str> = call.path.split('/').skip(2).collect();
    let (sid, resource) = match parts[..] {
        ["Accounts" | "SubAccounts", sid, "SMS", resource] if call.method == "POST" => {
            (sid, resource)
        }
        _ => return Err(Refusal::new("111100", "this is no address of a resource")),
    };
    signed(account, desk.clock.wall(), call, sid)?;
    match resource {
        "TemplateSMS" => template_sms(account, desk, call).map(Asked::Send),
        "GetArrived" => get_arrived(account, desk, call).map(Asked::Answer),
        _ => Err(Refusal::new("111100", "there is no such resource here")),
    }
}

fn signed(account: &Account, wall: Millis, call: &Call, sid: &str) -> Result<(), Refusal> {
    let given = call.authorization();
    ensure(!given.is_empty(), "111101", "no Authorization")?;
    let decoded = BASE64.decode(given).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(|| Refusal::new("111102", "Authorization is not base64"))?;
    let (ours, stamp) = decoded
        .split_once(':')
        .ok_or_else(|| Refusal::new("111103", "Authorization is not account:time"))?;
    ensure(!ours.is_empty(), "111104", "no account in Authorization")?;
    ensure(!stamp.is_empty(), "111105", "no time in Authorization")?;
    let at = china(stamp).ok_or_else(|| Refusal::new("111113", "the time has another form"))?;
    ensure((wall - at).abs() <= DAY, "111106", "the time is more than a day off")?;
    ensure(ours == sid, "111107", "the account in Authorization is not that in the address")?;
    let query = call.query_pairs();
    let sig = query.iter().find(|(name, _)| name == "sig").map(|(_, value)| value.as_str());
    let sig = sig.filter(|sig| !sig.is_empty());
    let sig = sig.ok_or_else(|| Refusal::new("111108", "no sig in the query"))?;
    ensure(sid == account.get("account_sid"), "111141", "there is no such account")?;
    let digest = Md5::new()
        .chain_update(sid)
        .chain_update(account.get("auth_token"))
        .chain_update(stamp)
        .finalize();
    ensure(same(&hex::encode_upper(digest), sig), "111109", "sig is not the account's")
}

/// A time such as `20250102003045`, in Shanghai.
fn china(stamp: &str) -> Option<Millis> {
    let digits = stamp.len() == 14 && stamp.bytes().all(|byte| byte.is_ascii_digit());
    let time = DateTime::strptime("%Y%m%d%H%M%S", stamp).ok().filter(|_| digits)?;
    Some(Offset::constant(8).to_timestamp(time).ok()?.as_millisecond())
}

/// What a body says, in whichever format.
struct Body(Value);

impl Body {
    fn read(call: &Call) -> Result<Self, Refusal> {
        let text = call.text().trim();
        ensure(!text.is_empty(), "160030", "the body is empty")?;
        let read = if call.content_type().contains("xml") { xml(text) } else { lenient(text) };
        let read = read.filter(Value::is_object);
        read.map(Self).ok_or_else(|| Refusal::new("160031", "the body cannot be read"))
    }

    /// A member that is a text; empty if it is missing.
    fn text(&self, name: &str) -> Result<&str, Refusal> {
        match self.0.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(Refusal::new("160031", "a member is no text")),
        }
    }
}

/// JSON, and what the vendor's classic clients take for it: a comma too many, single quotes.
fn lenient(text: &str) -> Option<Value> {
    let strict = serde_json::from_str(text).ok();
    let commas = || text.replace(",]", "]").replace(",}", "}");
    strict.or_else(|| serde_json::from_str(&commas()).ok()).or_else(|| {
        serde_json::from_str(&text.replace('\'', "\"")).ok().filter(|_| !text.contains('"'))
    })
}

fn xml(text: &str) -> Option<Value> {
    let plain = |text: &str| {
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        text.replace("&apos;", "'").replace("&amp;", "&")
    };
    let datas = element(text, "datas").unwrap_or_default();
    let datas: Vec<_> = datas
        .split("<data>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</data>").map(|(inner, _)| plain(inner)))
        .collect();
    let mut body = json!({ "datas": datas });
    for name in ["to", "appId", "templateId", "reqId", "subAppend", "smsType", "count"] {
        if let Some(value) = element(text, name) {
            body[name] = plain(value).into();
        }
    }
    text.ends_with('>').then_some(body)
}

fn template_sms(account: &Account, desk: &Desk, call: &Call) -> Result<Vec<Order>, Refusal> {
    let body = Body::read(call)?;
    let (to, template) = (body.text("to")?, body.text("templateId")?);
    ensure(!to.is_empty(), "112306", "no number")?;
    ensure(!template.is_empty(), "112307", "no template")?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    ensure(digits(template), "160057", "a template's id is digits")?;
    ensure(body.text("appId")? == account.get("app_id"), "112353", "not this account's app")?;
    ensure(template == account.get("template_id"), "160032", "there is no such template")?;
    let numbers: Vec<&str> = to.split(',').collect();
    ensure(numbers.len() <= NUMBERS_MAX, "160048", "more than 200 numbers")?;
    let datas = datas(&body)?;
    let test = template == TEST_TEMPLATE;
    ensure(!datas.is_empty(), "112308", "no variables")?;
    ensure(!test || datas.len() == 2, "160052", "the test template has two variables")?;
    let all_digits = datas.iter().all(|data| digits(data));
    ensure(!test || all_digits, "160069", "the test template takes digits")?;
    let reference = body.text("reqId")?;
    let plain = reference.len() <= 32 && reference.bytes().all(|it| it.is_ascii_alphanumeric());
    ensure(plain, "160055", "reqId is at most 32 letters and digits")?;
    let day = wire::in_china(desk.clock.wall(), "%Y%m%d");
    let (mut seen, mut orders) = (Vec::new(), Vec::new());
    for (place, number) in numbers.into_iter().enumerate() {
        let phone =
            mainland(number).ok_or_else(|| Refusal::new("160042", "not a mobile number"))?;
        ensure(!seen.contains(&phone), "160045", "a number stands there twice")?;
        let code = if test { "113302" } else { "112310" };
        ensure(desk.is_registered(&phone), code, "not registered as a test number")?;
        seen.push(phone.clone());
        let text = format!("【云通讯】模板{template}:{}", datas.join(","));
        let mut order = Order::new(phone, number, text, code_in(&datas.join(" ")));
        reference.clone_into(&mut order.reference);
        if place == 0 && !reference.is_empty() {
            order.once = Some((format!("{day} {reference}"), "160054"));
        }
        orders.push(order);
    }
    Ok(orders)
}

fn datas(body: &Body) -> Result<Vec<String>, Refusal> {
    let list = body.0.get("datas").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts: Option<Vec<_>> = list.iter().map(|it| it.as_str().map(str::to_owned)).collect();
    texts.ok_or_else(|| Refusal::new("160031", "a variable is no text"))
}

fn get_arrived(account: &Account, desk: &Desk, call: &Call) -> Result<Answer, Refusal> {
    let body = Body::read(call)?;
    ensure(body.text("appId")? == account.get("app_id"), "112353", "not this account's app")?;
    let count = match body.text("count")? {
        "" => 100,
        text => text.parse::<usize>().unwrap_or(0),
    };
    let fits = (1..=RECEIPTS_MAX).contains(&count);
    ensure(fits, "112329", "count is 1 to 500")?;
    let given = match body.text("smsType")? {
        "" | "1" => desk.receipts("yuntongxun", call.under.as_deref(), count),
        _ => Vec::new(),
    };
    ensure(!given.is_empty(), NO_RECEIPT_YET, "no receipt yet")?;
    let reports: Vec<_> = given.iter().map(report).collect();
    Ok(Answer::json(200, &json!({"statusCode": "000000", "reports": reports})))
}

fn report(sent: &Sent) -> Value {
    let receipt = sent.receipt.as_ref();
    let stamp = wire::in_china(sent.wall, "%Y%m%d%H%M%S");
    json!({
        "action": "SMSArrived",
        "smsType": "1",
        "apiVersion": "2013-12-26",
        "content": sent.id,
        "fromNum": sent.order.written,
        "dateSent": stamp,
        "recvTime": stamp,
        "deliverCode": receipt.map_or("", |due| &due.code),
        "status": if receipt.is_some_and(|due| due.arrived) { "0" } else { "1" },
        "reqId": sent.order.reference,
        "smsCount": "1",
        "spCode": "",
    })
}

fn taken(_: &Account, call: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    match sent.first() {
        Some(Ok(sent)) => {
            let created = wire::in_china(sent.wall, "%Y%m%d%H%M%S");
            if call.header("accept").contains("xml") {
                let body = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response>\
                     <statusCode>000000</statusCode><TemplateSMS><smsMessageSid>{}</smsMessageSid>\
                     <dateCreated>{created}</dateCreated></TemplateSMS></Response>",
                    sent.id
                );
                return Answer::new(200, "application/xml; charset=utf-8", body);
            }
            let told = json!({"smsMessageSid": sent.id, "dateCreated": created});
            Answer::json(200, &json!({"statusCode": "000000", "templateSMS": told}))
        }
        Some(Err(refusal)) => refused(call, refusal),
        None => refused(call, &Refusal::new("160044", "no number")),
    }
}

/// Every refusal is HTTP 200.
fn refused(call: &Call, refusal: &Refusal) -> Answer {
    let Refusal { status, code, text } = refusal;
    let status = if *status == 0 { 200 } else { *status };
    if call.header("accept").contains("xml") {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><statusCode>{code}</statusCode>\
             <statusMsg>{text}</statusMsg></Response>"
        );
        return Answer::new(status, "application/xml; charset=utf-8", body);
    }
    Answer::json(status, &json!({"statusCode": code, "statusMsg": text}))
}

fn push(_: &Account, sent: &Sent, _: &str) -> Push {
    let body = json!({"Request": report(sent)}).to_string();
    Push { kind: "application/json;charset=utf-8", headers: Vec::new(), body }
}
