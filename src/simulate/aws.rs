//! AWS from its own side: Signature Version 4 for End User Messaging (JSON) and SNS (a form, and
//! XML back).

use serde_json::{Value, json};

use super::call::{Answer, Asked, Call, Refusal, code_in, ensure, same};
use super::desk::{Desk, Order, Sent, random_hex};
use super::{Account, Dialect, Table};
use crate::clock::{MINUTE, Millis};
use crate::domain::phone::Phone;
use crate::providers::signing::{self, Canonical};

/// How far a request's clock may be off.
const SKEW: Millis = 15 * MINUTE;
const SMS_VOICE: &str = "sms-voice";
const SNS: &str = "sns";
/// The namespace of SNS's answers.
const SPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";
/// How long a message may wait, in seconds.
const LIFE: std::ops::RangeInclusive<u64> = 5..=259_200;
/// The most characters of a text.
const TEXT_MAX: usize = 1600;

pub(super) const DIALECT: Dialect = Dialect {
    name: "aws",
    account: &[
        ("access_key_id", "AKIAIOSFODNN7EXAMPLE"),
        ("secret_access_key", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("region", "us-east-1"),
    ],
    tables: &[
        Table {
            name: "aws",
            path: "",
            settings: &["access_key_id", "secret_access_key", "region"],
            more: "",
        },
        Table {
            name: "aws-sns",
            path: "",
            settings: &["access_key_id", "secret_access_key", "region"],
            more: "service = \"sns\"\n",
        },
    ],
    speaks: |call| call.authorization().starts_with("AWS4-HMAC-SHA256"),
    hear,
    each: false,
    id: |hex| [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"),
    taken,
    refused,
    // Receipts go to AWS's own event destinations.
    push: None,
};

/// The exceptions' names are those of JSON; XML has others for some.
fn hear(account: &Account, desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    let service = signed(account, desk.clock.wall(), call)?;
    let target = call.header("x-amz-target");
    let json = call.content_type().starts_with("application/x-amz-json-1.0");
    match (service, target) {
        (SMS_VOICE, "PinpointSMSVoiceV2.SendTextMessage") if json => {
            send_text_message(desk, call).map(|order| Asked::Send(vec![order]))
        }
        (SMS_VOICE, "PinpointSMSVoiceV2.DescribeAccountLimits") if json => {
            Ok(Asked::Answer(Answer::json(200, &json!({"AccountLimits": []}))))
        }
        (SNS, "") => sns(desk, call),
        _ => Err(Refusal::new("UnknownOperationException", "there is no such operation here")),
    }
}

fn signed<'a>(account: &Account, wall: Millis, call: &'a Call) -> Result<&'a str, Refusal> {
    let incomplete = || Refusal::new("IncompleteSignatureException", "Authorization lacks a part");
    let given = call.authorization().strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(incomplete)?;
    let part = |name: &str| {
        let mut parts = given.split(',').filter_map(|part| part.trim().split_once('='));
        parts.find(|(known, _)| *known == name).map(|(_, value)| value).ok_or_else(incomplete)
    };
    let (credential, names, signature) =
        (part("Credential")?, part("SignedHeaders")?, part("Signature")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [key, date, region, service, "aws4_request"] = scope[..] else { return Err(incomplete()) };
    let unknown = "UnrecognizedClientException";
    ensure(key == account.get("access_key_id"), unknown, "there is no such key")?;
    let wrong = |text| Refusal::new("InvalidSignatureException", text);
    let stamp = call.header("x-amz-date");
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok();
    let at = at.and_then(|at| jiff::tz::Offset::UTC.to_timestamp(at).ok());
    let at = at.ok_or_else(|| wrong("X-Amz-Date has another form"))?.as_millisecond();
    let fresh = (wall - at).abs() <= SKEW && stamp.starts_with(date);
    if !fresh {
        return Err(wrong("Signature expired: the time is more than 15 minutes off"));
    }
    let ours = region == account.get("region") && [SMS_VOICE, SNS].contains(&service);
    if !ours {
        return Err(wrong("Credential is scoped to another region or service"));
    }
    let listed: Vec<&str> = names.split(';').collect();
    let wanted =
        |name: &str| name == "host" || name == "content-type" || name.starts_with("x-amz-");
    let mut there = call.headers.keys().map(hyper::header::HeaderName::as_str);
    if !there.all(|name| !wanted(name) || listed.contains(&name)) || !listed.is_sorted() {
        return Err(wrong("a header that has to be signed is not"));
    }
    let canonical = Canonical {
        method: &call.method,
        path: &call.whole_path,
        query: &call.sorted_query(),
        headers: &call.signed(names),
        payload: &signing::sha256_hex(&call.body),
    };
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{date}/{region}/{service}/aws4_request\n{}",
        canonical.digest()
    );
    let secret = format!("AWS4{}", account.get("secret_access_key")).into_bytes();
    let steps = [date, region, service, "aws4_request", to_sign.as_str()];
    let ours =
        steps.into_iter().fold(secret, |key, step| signing::hmac_sha256(&key, step.as_bytes()));
    if same(&hex::encode(ours), signature) {
        Ok(service)
    } else {
        Err(wrong("the signature is another one"))
    }
}

fn order(desk: &Desk, to: &str, text: &str, code: &str) -> Result<Order, Refusal> {
    let phone = Phone::from_e164(to);
    let phone = phone.ok_or_else(|| Refusal::new(code, "the phone number is not E.164"))?;
    let sandbox = "ConflictException";
    ensure(
        desk.is_registered(&phone),
        sandbox,
        "a sandbox account, and the destination is not verified",
    )?;
    let fits = (1..=TEXT_MAX).contains(&text.chars().count());
    ensure(fits, code, "Message too long, or empty")?;
    Ok(Order::new(phone, to, text.to_owned(), code_in(text)))
}

fn send_text_message(desk: &Desk, call: &Call) -> Result<Order, Refusal> {
    let invalid = |text| Refusal::new("ValidationException", text);
    let Ok(Value::Object(body)) = serde_json::from_slice(&call.body) else {
        return Err(invalid("the body is no JSON object"));
    };
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = text("MessageType");
    ensure(
        ["", "TRANSACTIONAL", "PROMOTIONAL"].contains(&kind),
        "ValidationException",
        "MessageType",
    )?;
    let life = body.get("TimeToLive");
    let fits = life.is_none_or(|life| life.as_u64().is_some_and(|life| LIFE.contains(&life)));
    ensure(fits, "ValidationException", "TimeToLive is 5 to 259200")?;
    order(desk, text("DestinationPhoneNumber"), text("MessageBody"), "ValidationException")
}

fn sns(desk: &Desk, call: &Call) -> Result<Asked, Refusal> {
    let form = call.form();
    ensure(form.get("Version") == "2010-03-31", "InvalidParameter", "the version is 2010-03-31")?;
    match form.get("Action") {
        "Publish" => {
            let order =
                order(desk, form.get("PhoneNumber"), form.get("Message"), "InvalidParameter");
            order.map(|order| Asked::Send(vec![order]))
        }
        "GetSMSAttributes" => {
            let body = format!(
                "<GetSMSAttributesResponse xmlns=\"{SPACE}\"><GetSMSAttributesResult>\
                 <attributes/></GetSMSAttributesResult></GetSMSAttributesResponse>"
            );
            Ok(Asked::Answer(Answer::new(200, "text/xml", body)))
        }
        _ => Err(Refusal::new("InvalidAction", "there is no such action here")),
    }
}

fn is_sns(call: &Call) -> bool {
    call.authorization().contains("/sns/aws4_request")
}

fn taken(_: &Account, call: &Call, sent: &[Result<Sent, Refusal>]) -> Answer {
    match sent.first() {
        Some(Ok(sent)) if is_sns(call) => {
            let body = format!(
                "<PublishResponse xmlns=\"{SPACE}\"><PublishResult>\
                 <MessageId>{}</MessageId></PublishResult><ResponseMetadata><RequestId>{}\
                 </RequestId></ResponseMetadata></PublishResponse>",
                sent.id,
                random_hex()
            );
            Answer::new(200, "text/xml", body)
        }
        Some(Ok(sent)) => {
            let body = json!({"MessageId": sent.id}).to_string();
            Answer::new(200, "application/x-amz-json-1.0", body)
        }
        Some(Err(refusal)) => refused(call, refusal),
        None => refused(call, &Refusal::new("ValidationException", "no number")),
    }
}

fn refused(call: &Call, refusal: &Refusal) -> Answer {
    let Refusal { status, code, text } = refusal;
    let name = code.strip_suffix("Exception").unwrap_or(code);
    if is_sns(call) {
        let name = match name {
            "UnrecognizedClient" => "InvalidClientTokenId",
            "InvalidSignature" => "SignatureDoesNotMatch",
            name => name,
        };
        let status = match (*status, name) {
            (0, "InvalidClientTokenId" | "SignatureDoesNotMatch" | "AuthorizationError") => 403,
            (0, "InternalError") => 500,
            (0, _) => 400,
            (given, _) => given,
        };
        let body = format!(
            "<ErrorResponse xmlns=\"{SPACE}\"><Error>\
             <Type>Sender</Type><Code>{name}</Code><Message>{text}</Message></Error>\
             <RequestId>{}</RequestId></ErrorResponse>",
            random_hex()
        );
        return Answer::new(status, "text/xml", body);
    }
    let status = match (*status, name) {
        (0, "InternalServer" | "InternalFailure") => 500,
        (0, _) => 400,
        (given, _) => given,
    };
    let body = json!({"__type": format!("{name}Exception"), "message": text}).to_string();
    Answer::new(status, "application/x-amz-json-1.0", body)
}
