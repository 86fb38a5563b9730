//! 腾讯云短信 from its own side: TC3-HMAC-SHA256 within five minutes, variables of at most six
//! digits, each number taken or refused by itself, and one message in thirty seconds to a number.

use serde_json::{Map, Value, json};

use super::call::{Answer, Asked, Call, Refusal, code_in, ensure, has_link, mainland, same};
use super::desk::{Desk, NumberLimit, Order, Sent, random_hex};
use super::push::Push;
use super::{Account, Dialect, Table};
use crate::clock::{DAY, MINUTE, Millis, SECOND};
use crate::domain::phone::Phone;
use crate::providers::signing::{self, Canonical};
use crate::providers::wire;

const VERSION: &str = "2021-01-11";
/// How far a request's clock may be off.
const SKEW: Millis = 5 * MINUTE;
const NUMBERS_MAX: usize = 200;
/// The most digits of a variable of a template for codes.
const VARIABLE_MAX: usize = 6;
/// The most bytes of what comes back in receipts.
const CONTEXT_MAX: usize = 512;
/// Receipts that are given at once.
const RECEIPTS_MAX: u64 = 100;

pub(super) const DIALECT: Dialect = Dialect {
    name: "tencent",
    account: &[
        ("secret_id", "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"),
        ("secret_key", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"),
        ("sdk_app_id", "1400006666"),
        ("sign_name", "TestSign"),
        ("template_id", "449739"),
    ],
    tables: &[Table {
        name: "tencent",
        path: "",
        settings: &["secret_id", "secret_key", "sdk_app_id", "sign_name", "template_id"],
        more: "",
    }],
    speaks: |call| {
        !call.header("x-tc-action").is_empty() || call.authorization().starts_with("TC3-")
    },
    hear,
    each: true,
    id: |hex| format!("2645:{}", u64::from_str_radix(&hex[..12], 16).unwrap_or(0)),
    taken,
    refused,
    push: Some(push),
};

fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    signed(account, desk.clock.wall(), call)?;
    ensure(call.header("x-tc-version") == VERSION, "NoSuchVersion", "the version is 2021-01-11")?;
    let region = call.header("x-tc-region");
    ensure(!region.is_empty(), "MissingParameter", "X-TC-Region is missing")?;
    let body = if call.method == "GET" { flat(call) } else { posted(call)? };
    match call.header("x-tc-action") {
        "SendSms" => send_sms(account, desk, &body).map(Asked::Send),
        "PullSmsSendStatus" => pull(account, desk, call, &body).map(Asked::Answer),
        "PullSmsSendStatusByPhoneNumber" => pull_by_phone(account, desk, &body).map(Asked::Answer),
        _ => Err(Refusal::new("InvalidAction", "there is no such action here")),
    }
}

fn signed(account: &Account, wall: Millis, call: &Call) -> Result<(), Refusal> {
    let malformed =
        || Refusal::new("AuthFailure.InvalidAuthorization", "Authorization lacks a part");
    let given = call.authorization().strip_prefix("TC3-HMAC-SHA256 ").ok_or_else(malformed)?;
    let part = |name: &str| {
        let mut parts = given.split(',').filter_map(|part| part.trim().split_once('='));
        parts.find(|(known, _)| *known == name).map(|(_, value)| value).ok_or_else(malformed)
    };
    let (credential, names, signature) =
        (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [key, date, "sms", "tc3_request"] = scope[..] else { return Err(malformed()) };
    let unknown = "AuthFailure.SecretIdNotFound";
    ensure(key == account.get("secret_id"), unknown, "there is no such key")?;
    let stamp = call.header("x-tc-timestamp");
    let at = stamp.parse::<Millis>().ok().map(|at| at * SECOND).ok_or_else(malformed)?;
    let fresh = (wall - at).abs() <= SKEW && wire::in_greenwich(at, "%Y-%m-%d") == date;
    ensure(fresh, "AuthFailure.SignatureExpire", "the time is more than five minutes off")?;
    let listed: Vec<&str> = names.split(';').collect();
    let enough = listed.contains(&"content-type") && listed.contains(&"host");
    ensure(enough, "AuthFailure.SignatureFailure", "content-type and host are signed")?;
    let canonical = Canonical {
        method: &call.method,
        path: &call.whole_path,
        query: &call.query,
        headers: &call.signed(names),
        payload: &signing::sha256_hex(&call.body),
    };
    let to_sign =
        format!("TC3-HMAC-SHA256\n{stamp}\n{date}/sms/tc3_request\n{}", canonical.digest());
    let secret = format!("TC3{}", account.get("secret_key")).into_bytes();
    let steps = [date, "sms", "tc3_request", to_sign.as_str()];
    let ours =
        steps.into_iter().fold(secret, |key, step| signing::hmac_sha256(&key, step.as_bytes()));
    let same = same(&hex::encode(ours), signature);
    ensure(same, "AuthFailure.SignatureFailure", "the signature is another one")
}

fn posted(call: &Call) -> Result<Map<String, Value>, Refusal> {
    let json = call.content_type().starts_with("application/json");
    ensure(json, "InvalidParameter", "the body is JSON")?;
    match serde_json::from_slice(&call.body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Refusal::new("InvalidParameter", "the body is no JSON object")),
    }
}

/// The parameters of a GET: `PhoneNumberSet.0=…`.
fn flat(call: &Call) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, value) in call.query_pairs() {
        match name.split_once('.') {
            Some((list, _)) => {
                let entry = members.entry(list).or_insert_with(|| json!([]));
                if let Value::Array(entries) = entry {
                    entries.push(value.into());
                }
            }
            None => drop(members.insert(name, value.into())),
        }
    }
    members
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a str, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Refusal::new("InvalidParameter", "a member is no text")),
    }
}

fn texts(body: &Map<String, Value>, name: &str) -> Result<Vec<String>, Refusal> {
    let list = body.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts: Option<Vec<_>> = list.iter().map(|it| it.as_str().map(str::to_owned)).collect();
    texts.ok_or_else(|| Refusal::new("InvalidParameter", "a member is no list of texts"))
}

fn app(account: &Account, body: &Map<String, Value>) -> Result<(), Refusal> {
    let given = text(body, "SmsSdkAppId")?;
    ensure(!given.is_empty(), "MissingParameter", "SmsSdkAppId is missing")?;
    let ours = given == account.get("sdk_app_id");
    ensure(ours, "UnauthorizedOperation.SmsSdkAppIdVerifyFail", "not this account's app")
}

fn send_sms(
    account: &Account,
    desk: &Desk,
    body: &Map<String, Value>,
) -> Result<Vec<Order>, Refusal> {
    app(account, body)?;
    let numbers = texts(body, "PhoneNumberSet")?;
    ensure(!numbers.is_empty(), "MissingParameter.EmptyPhoneNumberSet", "no number")?;
    let few = numbers.len() <= NUMBERS_MAX;
    ensure(few, "LimitExceeded.PhoneNumberCountLimit", "more than 200 numbers")?;
    let template = text(body, "TemplateId")?;
    ensure(!template.is_empty(), "MissingParameter", "TemplateId is missing")?;
    let (sign, context) = (text(body, "SignName")?, text(body, "SessionContext")?);
    ensure(context.len() < CONTEXT_MAX, "InvalidParameterValue", "SessionContext is too long")?;
    let params = texts(body, "TemplateParamSet")?;
    let home = |number: &&String| mainland(number).is_some();
    let mixed = numbers.iter().any(|it| home(&it)) && !numbers.iter().all(|it| home(&it));
    let code = "UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber";
    ensure(!mixed, code, "mainland numbers and others in one request")?;
    let order = |number: &String| {
        let text = format!("【{sign}】{template}:{}", params.join(","));
        let found = mainland(number)
            .or_else(|| Phone::from_e164(number).filter(|_| !number.starts_with("+86")));
        let unfit = unfit(account, desk, found.as_ref(), sign, template, &params);
        let phone = found.or_else(|| Phone::from_e164("+8610000000000"));
        let phone = phone.ok_or_else(|| Refusal::new("InternalError", "never"))?;
        let key = phone.e164().to_owned();
        let content = format!("{key} {text}");
        let mut order = Order::new(phone, number, text, code_in(&params.join(" ")));
        let (half, day) = (30 * SECOND, DAY);
        let sudden = "LimitExceeded.PhoneNumberThirtySecondLimit";
        let again = "LimitExceeded.PhoneNumberSameContentDailyLimit";
        order.limits = vec![
            NumberLimit { key, most: 1, length: half, code: sudden },
            NumberLimit { key: content, most: 2, length: day, code: again },
        ];
        context.clone_into(&mut order.reference);
        order.unfit = unfit;
        Ok(order)
    };
    numbers.iter().map(order).collect()
}

/// Why a number of a request is refused, if it is.
fn unfit(
    account: &Account,
    desk: &Desk,
    phone: Option<&Phone>,
    sign: &str,
    template: &str,
    params: &[String],
) -> Option<Refusal> {
    let refusal = |code: &str, text| Some(Refusal::new(code, text));
    let Some(phone) = phone.filter(|phone| desk.is_registered(phone)) else {
        return refusal("InvalidParameterValue.IncorrectPhoneNumber", "not a mobile number");
    };
    if phone.mainland().is_some() && sign != account.get("sign_name") {
        let code = "FailedOperation.SignatureIncorrectOrUnapproved";
        return refusal(code, "no such signature");
    }
    if template != account.get("template_id") {
        let code = "FailedOperation.TemplateIncorrectOrUnapproved";
        return refusal(code, "no such template");
    }
    if params.is_empty() {
        let code = "FailedOperation.TemplateParamSetNotMatchApprovedTemplate";
        return refusal(code, "the template wants variables");
    }
    if params.iter().any(|param| has_link(param)) {
        let code = "InvalidParameterValue.ProhibitedUseUrlInTemplateParameter";
        return refusal(code, "a variable holds a link");
    }
    let digits = |param: &String| {
        (1..=VARIABLE_MAX).contains(&param.len()) && param.bytes().all(|it| it.is_ascii_digit())
    };
    let code = "InvalidParameterValue.TemplateParameterFormatError";
    if params.iter().all(digits) { None } else { refusal(code, "a variable is 1 to 6 digits") }
}

fn pull(
    account: &Account,
    desk: &Desk,
    call: &Call,
    body: &Map<String, Value>,
) -> Result<Answer, Refusal> {
    app(account, body)?;
    let limit = body.get("Limit").and_then(Value::as_u64).unwrap_or(0);
    let fits = (1..=RECEIPTS_MAX).contains(&limit);
    ensure(fits, "InvalidParameterValue.LimitVerifyFail", "Limit is 1 to 100")?;
    let most = usize::try_from(limit).unwrap_or(0);
    let given = desk.receipts(DIALECT.name, call.under.as_deref(), most);
    Ok(statuses(&given))
}

fn pull_by_phone(
    account: &Account,
    desk: &Desk,
    body: &Map<String, Value>,
) -> Result<Answer, Refusal> {
    app(account, body)?;
    let number = |name: &str| body.get(name).and_then(Value::as_i64);
    let (Some(begin), Some(offset), Some(limit)) =
        (number("BeginTime"), number("Offset"), number("Limit"))
    else {
        return Err(Refusal::new("MissingParameter", "BeginTime, Offset or Limit is missing"));
    };
    let fits = (1..=100).contains(&limit);
    ensure(fits, "InvalidParameterValue.LimitVerifyFail", "Limit is 1 to 100")?;
    ensure(offset == 0, "InvalidParameterValue.OffsetVerifyFail", "Offset is 0 by now")?;
    let end = number("EndTime").unwrap_or(Millis::MAX / SECOND);
    let phone = mainland(text(body, "PhoneNumber")?)
        .or_else(|| Phone::from_e164(text(body, "PhoneNumber").unwrap_or_default()));
    let code = "InvalidParameterValue.IncorrectPhoneNumber";
    let phone = phone.ok_or_else(|| Refusal::new(code, "not a mobile number"))?;
    let now = desk.clock.now();
    let wanted = |sent: &Sent| {
        let within = (begin..=end).contains(&(sent.wall / SECOND));
        within && sent.order.phone == phone && sent.receipt_by(now).is_some()
    };
    let found = desk.find(DIALECT.name, wanted);
    let most = usize::try_from(limit).unwrap_or(0).min(found.len());
    Ok(statuses(&found[..most]))
}

fn statuses(sent: &[Sent]) -> Answer {
    let status = |sent: &Sent| {
        let receipt = sent.receipt.as_ref();
        let arrived = receipt.is_some_and(|due| due.arrived);
        json!({
            "UserReceiveTime": sent.wall / SECOND,
            "CountryCode": "86",
            "SubscriberNumber": sent.order.phone.mainland().unwrap_or_default(),
            "PhoneNumber": sent.order.phone.e164(),
            "SerialNo": sent.id,
            "ReportStatus": if arrived { "SUCCESS" } else { "FAIL" },
            "Description": receipt.map_or("", |due| &due.code),
            "SessionContext": sent.order.reference,
        })
    };
    let list: Vec<_> = sent.iter().map(status).collect();
    response(json!({ "PullSmsSendStatusSet": list }))
}

fn response(mut members: Value) -> Answer {
    members["RequestId"] = random_hex().into();
    Answer::json(200, &json!({ "Response": members }))
}

fn taken(_: &Account, _: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    let entry = |sent: &Result<Sent, Refusal>| match sent {
        Ok(sent) => json!({
            "SerialNo": sent.id,
            "PhoneNumber": sent.order.phone.e164(),
            "Fee": 1,
            "SessionContext": sent.order.reference,
            "Code": "Ok",
            "Message": "send success",
            "IsoCode": if sent.order.phone.mainland().is_some() { "CN" } else { "" },
        }),
        Err(refusal) => json!({
            "SerialNo": "",
            "PhoneNumber": "",
            "Fee": 0,
            "SessionContext": "",
            "Code": refusal.code,
            "Message": refusal.text,
            "IsoCode": "",
        }),
    };
    let entries: Vec<_> = sent.iter().map(entry).collect();
    response(json!({ "SendStatusSet": entries }))
}

/// Every refusal is HTTP 200.
fn refused(_: &Call, refusal: &Refusal) -> Answer {
    let Refusal { status, code, text } = refusal;
    let mut answer = response(json!({"Error": {"Code": code, "Message": text}}));
    if *status != 0 {
        answer.status = *status;
    }
    answer
}

fn push(_: &Account, sent: &Sent, _: &str) -> Push {
    let receipt = sent.receipt.as_ref();
    let arrived = receipt.is_some_and(|due| due.arrived);
    let body = json!([{
        "user_receive_time": wire::in_china(sent.wall, "%Y-%m-%d %H:%M:%S"),
        "nationcode": "86",
        "mobile": sent.order.phone.mainland().unwrap_or_default(),
        "report_status": if arrived { "SUCCESS" } else { "FAIL" },
        "errmsg": receipt.map_or("", |due| &due.code),
        "description": if arrived { "用户短信送达成功" } else { "失败" },
        "sid": sent.id,
    }]);
    Push { kind: "application/json", headers: Vec::new(), body: body.to_string() }
}
