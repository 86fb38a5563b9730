//! 阿里云短信 from its own side: ACS3-HMAC-SHA256 and the older RPC signature, nonces that are good
//! once, template variables that are texts, and one code a minute, five an hour and ten a day for
//! a number and signature.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::call::{Answer, Asked, Call, Refusal, code_in, ensure, has_link, mainland, same};
use super::desk::{Desk, NumberLimit, Order, Sent, random_hex};
use super::push::Push;
use super::{Account, Dialect, Table};
use crate::clock::{DAY, HOUR, MINUTE, Millis};
use crate::domain::phone::Phone;
use crate::providers::signing::{self, Canonical};
use crate::providers::wire;

const VERSION: &str = "2017-05-25";
/// How far a request's clock may be off.
const SKEW: Millis = 15 * MINUTE;
const NUMBERS_MAX: usize = 1000;
/// The most characters of a variable.
const VARIABLE_MAX: usize = 35;

pub(super) const DIALECT: Dialect = Dialect {
    name: "aliyun",
    account: &[
        ("access_key_id", "LTAI5tFakeKeyId00000001"),
        ("access_key_secret", "FakeSecretFakeSecretFakeSecret"),
        ("sign_name", "TestSign"),
        ("template_code", "SMS_71390007"),
    ],
    tables: &[Table {
        name: "aliyun",
        path: "",
        settings: &["access_key_id", "access_key_secret", "sign_name", "template_code"],
        more: "",
    }],
    speaks,
    hear,
    each: false,
    id: |hex| format!("{:018}^0", u64::from_str_radix(&hex[..14], 16).unwrap_or(0)),
    taken,
    refused,
    push: Some(push),
};

fn speaks(call: &Call) -> bool {
    let acs3 = call.authorization().starts_with("ACS3-");
    let acs = acs3 || !call.header("x-acs-action").is_empty();
    acs || call.query.contains("SignatureMethod=") || call.text().contains("SignatureMethod=")
}

type Params = BTreeMap<String, String>;

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    let mut params: Params = call.query_pairs().into_iter().collect();
    if call.content_type().starts_with("application/x-www-form-urlencoded") {
        params.extend(call.form().0);
    }
    let acs3 = call.authorization().starts_with("ACS3-HMAC-SHA256");
    let (action, version) = if acs3 {
        acs3_signed(account, desk, call)?;
        (call.header("x-acs-action").to_owned(), call.header("x-acs-version").to_owned())
    } else {
        rpc_signed(account, desk, call, &params)?;
        let param = |name: &str| params.get(name).cloned().unwrap_or_default();
        (param("Action"), param("Version"))
    };
    ensure(version == VERSION, "InvalidVersion", "the version is 2017-05-25")?;
    match action.as_str() {
        "SendSms" => send_sms(account, desk, &params).map(Asked::Send),
        "QuerySendDetails" => query_send_details(desk, call, &params).map(Asked::Answer),
        _ => Err(Refusal::new("InvalidAction.NotFound", "there is no such action here")),
    }
}

/// The gateway's checks that both signatures have in common.
fn fresh(desk: &Desk, at: &str, nonce: &str) -> Result<(), Refusal> {
    let form = at.len() == 20 && at.ends_with('Z');
    let time = at.parse::<jiff::Timestamp>().ok().filter(|_| form);
    let time =
        time.ok_or_else(|| Refusal::new("InvalidTimeStamp.Format", "write 2025-01-01T00:00:00Z"))?;
    let apart = (desk.clock.wall() - time.as_millisecond()).abs();
    ensure(apart <= SKEW, "InvalidTimeStamp.Expired", "the time is more than 15 minutes off")?;
    let sound = (1..=128).contains(&nonce.len());
    ensure(sound, "IncompleteSignature", "no nonce")?;
    ensure(
        desk.is_new(&format!("aliyun {nonce}")),
        "SignatureNonceUsed",
        "the nonce was used before",
    )
}

fn acs3_signed(account: &Account, desk: &Desk, call: &Call) -> Result<(), Refusal> {
    let given = call.authorization().trim_start_matches("ACS3-HMAC-SHA256").trim();
    let part = |name: &str| {
        let mut parts = given.split(',').filter_map(|part| part.trim().split_once('='));
        parts.find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    };
    let (key, names, signature) = (part("Credential"), part("SignedHeaders"), part("Signature"));
    let whole = !key.is_empty() && !names.is_empty() && !signature.is_empty();
    ensure(whole, "IncompleteSignature", "Authorization lacks a part")?;
    ensure(key == account.get("access_key_id"), "InvalidAccessKeyId.NotFound", "no such key")?;
    let listed: Vec<&str> = names.split(';').collect();
    let wanted =
        |name: &str| name == "host" || name == "content-type" || name.starts_with("x-acs-");
    let all = call.headers.keys().filter(|name| wanted(name.as_str()));
    let all = all.into_iter().all(|name| listed.contains(&name.as_str())) && call.has_host();
    ensure(all && listed.is_sorted(), "IncompleteSignature", "host and all x-acs- are signed")?;
    let payload = signing::sha256_hex(&call.body);
    let told = call.header("x-acs-content-sha256");
    ensure(told == payload, "SignatureDoesNotMatch", "x-acs-content-sha256 is another body's")?;
    let canonical = Canonical {
        method: &call.method,
        path: &call.whole_path,
        query: &call.sorted_query(),
        headers: &call.signed(names),
        payload: &payload,
    };
    let to_sign = format!("ACS3-HMAC-SHA256\n{}", canonical.digest());
    let secret = account.get("access_key_secret").as_bytes();
    let ours = hex::encode(signing::hmac_sha256(secret, to_sign.as_bytes()));
    ensure(same(&ours, signature), "SignatureDoesNotMatch", "the signature is another one")?;
    fresh(desk, call.header("x-acs-date"), call.header("x-acs-signature-nonce"))
}

fn rpc_signed(account: &Account, desk: &Desk, call: &Call, params: &Params) -> Result<(), Refusal> {
    let param = |name: &str| params.get(name).map_or("", String::as_str);
    let method = param("SignatureMethod") == "HMAC-SHA1" && param("SignatureVersion") == "1.0";
    ensure(method && !param("Signature").is_empty(), "IncompleteSignature", "no signature")?;
    let key = param("AccessKeyId");
    ensure(key == account.get("access_key_id"), "InvalidAccessKeyId.NotFound", "no such key")?;
    let signed = params.iter().filter(|(name, _)| *name != "Signature");
    let query = signing::query(signed.map(|(name, value)| (&**name, &**value)));
    let text = format!("{}&%2F&{}", call.method, signing::encoded(&query));
    let secret = format!("{}&", account.get("access_key_secret"));
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let ours = BASE64.encode(hmac::sign(&key, text.as_bytes()));
    let same = same(&ours, param("Signature"));
    ensure(same, "SignatureDoesNotMatch", "the signature is another one")?;
    fresh(desk, param("Timestamp"), param("SignatureNonce"))
}

fn send_sms(account: &Account, desk: &Desk, params: &Params) -> Result<Vec<Order>, Refusal> {
    let param = |name: &str| params.get(name).map_or("", String::as_str);
    let (numbers, sign, template) =
        (param("PhoneNumbers"), param("SignName"), param("TemplateCode"));
    ensure(!numbers.is_empty(), "MissingPhoneNumbers", "PhoneNumbers is missing")?;
    ensure(!sign.is_empty(), "MissingSignName", "SignName is missing")?;
    ensure(!template.is_empty(), "MissingTemplateCode", "TemplateCode is missing")?;
    let numbers: Vec<&str> = numbers.split(',').collect();
    let few = numbers.len() <= NUMBERS_MAX;
    ensure(few, "isv.MOBILE_COUNT_OVER_LIMIT", "more than 1000 numbers")?;
    ensure(sign == account.get("sign_name"), "isv.SMS_SIGNATURE_ILLEGAL", "no such signature")?;
    let known = template == account.get("template_code");
    ensure(known, "isv.SMS_TEMPLATE_ILLEGAL", "no such template")?;
    let extend = param("SmsUpExtendCode").bytes().all(|byte| byte.is_ascii_digit());
    ensure(extend, "isv.EXTEND_CODE_ERROR", "SmsUpExtendCode is digits")?;
    let variables = variables(param("TemplateParam"))?;
    let shown: Vec<&str> = variables.values().filter_map(Value::as_str).collect();
    let order = |number: &&str| {
        let phone = number_of(number)?;
        let text = format!("【{sign}】{template}:{}", shown.join(","));
        let code = variables.get("code").and_then(Value::as_str).unwrap_or_default();
        let key = format!("{sign} {}", phone.e164());
        let limit = |most, length| {
            let (key, code) = (key.clone(), "isv.BUSINESS_LIMIT_CONTROL");
            NumberLimit { key, most, length, code }
        };
        let registered = desk.is_registered(&phone);
        ensure(registered, "isv.MOBILE_NUMBER_ILLEGAL", "not a number of the test account")?;
        let mut order = Order::new(phone, number, text, code_in(code));
        order.limits = vec![limit(1, MINUTE), limit(5, HOUR), limit(10, DAY)];
        param("OutId").clone_into(&mut order.reference);
        Ok(order)
    };
    numbers.iter().map(order).collect()
}

/// A mainland number, or one of elsewhere with its country's code.
fn number_of(text: &str) -> Result<Phone, Refusal> {
    let abroad = || {
        let digits = text.trim_start_matches('+').trim_start_matches("00");
        let long = digits.len() >= 9 && !digits.starts_with("86");
        Phone::from_e164(&format!("+{digits}")).filter(|_| long)
    };
    mainland(text)
        .or_else(abroad)
        .ok_or_else(|| Refusal::new("isv.MOBILE_NUMBER_ILLEGAL", "not a mobile number"))
}

/// The template's variables: a JSON object of texts with the code in it.
fn variables(text: &str) -> Result<Map<String, Value>, Refusal> {
    ensure(!text.is_empty(), "isv.TEMPLATE_MISSING_PARAMETERS", "TemplateParam is missing")?;
    let Ok(Value::Object(variables)) = serde_json::from_str(text) else {
        return Err(Refusal::new("isv.INVALID_JSON_PARAM", "TemplateParam is no JSON object"));
    };
    let missing = "isv.TEMPLATE_MISSING_PARAMETERS";
    ensure(variables.contains_key("code"), missing, "the template wants `code`")?;
    for value in variables.values() {
        let Value::String(value) = value else {
            return Err(Refusal::new("isv.INVALID_JSON_PARAM", "a variable is no text"));
        };
        let short = value.chars().count() <= VARIABLE_MAX;
        ensure(short, "isv.PARAM_LENGTH_LIMIT", "a variable is longer than 35 characters")?;
        ensure(!has_link(value), "isv.PARAM_NOT_SUPPORT_URL", "a variable holds a link")?;
    }
    Ok(variables)
}

fn query_send_details(desk: &Desk, call: &Call, params: &Params) -> Result<Answer, Refusal> {
    let param = |name: &str| params.get(name).map_or("", String::as_str);
    let phone = number_of(param("PhoneNumber"))?;
    let date = param("SendDate");
    let number = |name: &str, most: usize| {
        param(name).parse::<usize>().ok().filter(|number| (1..=most).contains(number))
    };
    let (size, page) = (number("PageSize", 50), number("CurrentPage", 10_000));
    let (Some(size), Some(page), 8) = (size, page, date.len()) else {
        return Err(Refusal::new("isv.INVALID_PARAMETERS", "SendDate, PageSize or CurrentPage"));
    };
    let id = param("BizId");
    let wanted = |sent: &Sent| {
        let named = id.is_empty() || id == sent.id;
        let under = call.under.as_deref().is_none_or(|under| under == sent.provider);
        let day = wire::in_china(sent.wall, "%Y%m%d");
        named && under && day == date && sent.order.phone == phone
    };
    let found = desk.find(DIALECT.name, wanted);
    let shown = found.iter().skip((page - 1) * size).take(size);
    let details: Vec<_> = shown.map(|sent| detail(sent, desk.clock.now())).collect();
    Ok(Answer::json(
        200,
        &json!({
            "Code": "OK",
            "Message": "OK",
            "RequestId": request_id(),
            "TotalCount": found.len(),
            "SmsSendDetailDTOs": {"SmsSendDetailDTO": details},
        }),
    ))
}

fn detail(sent: &Sent, now: Millis) -> Value {
    let receipt = sent.receipt_by(now);
    let state = receipt.map_or(1, |due| if due.arrived { 3 } else { 2 });
    json!({
        "PhoneNum": sent.order.written,
        "SendDate": wire::in_china(sent.wall, "%Y-%m-%d %H:%M:%S"),
        "ReceiveDate": wire::in_china(sent.wall, "%Y-%m-%d %H:%M:%S"),
        "SendStatus": state,
        "ErrCode": receipt.map_or("", |due| if due.arrived { "DELIVERED" } else { &due.code }),
        "TemplateCode": "",
        "OutId": sent.order.reference,
        "Content": sent.order.text,
    })
}

fn request_id() -> String {
    let hex = random_hex().to_uppercase();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn taken(_: &Account, call: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    match sent.first() {
        Some(Ok(sent)) => {
            let id = request_id();
            let body = json!({"Code": "OK", "Message": "OK", "BizId": sent.id, "RequestId": id});
            Answer::json(200, &body)
        }
        Some(Err(refusal)) => refused(call, refusal),
        None => refused(call, &Refusal::new("MissingPhoneNumbers", "no number")),
    }
}

/// The product's refusals are HTTP 200, those of the gateway before it are not.
fn refused(_: &Call, refusal: &Refusal) -> Answer {
    let Refusal { status, code, text } = refusal;
    let status = match (*status, code.split('.').next().unwrap_or_default()) {
        (0, "isv" | "isp") => 200,
        (0, "InvalidAccessKeyId" | "InvalidAction") => 404,
        (0, "Throttling" | "ServiceUnavailable") => 503,
        (0, "InternalError") => 500,
        (0, "Forbidden" | "NoPermission") => 403,
        (0, _) => 400,
        (scripted, _) => scripted,
    };
    // Some clients cut their own explanation out of the text after `is:`.
    let text = match code.as_str() {
        "SignatureDoesNotMatch" => format!("{text}. server string to sign is:(not shown)"),
        _ => (*text).to_owned(),
    };
    Answer::json(status, &json!({"Code": code, "Message": text, "RequestId": request_id()}))
}

fn push(_: &Account, sent: &Sent, _: &str) -> Push {
    let (time, receipt) = (wire::in_china(sent.wall, "%Y-%m-%d %H:%M:%S"), sent.receipt.as_ref());
    let arrived = receipt.is_some_and(|due| due.arrived);
    let code = receipt.map_or("", |due| if due.arrived { "DELIVERED" } else { &due.code });
    let body = json!([{
        "phone_number": sent.order.written,
        "send_time": time,
        "report_time": time,
        "success": arrived,
        "err_code": code,
        "err_msg": if arrived { "用户接收成功" } else { "失败" },
        "sms_size": "1",
        "biz_id": sent.id,
        "out_id": sent.order.reference,
    }]);
    Push { kind: "application/json; charset=utf-8", headers: Vec::new(), body: body.to_string() }
}
