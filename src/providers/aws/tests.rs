use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::providers::stub::{
    self, REFERENCE, Seen, WALL, a_message, answer, cases, message, name, pairs, vendor,
};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const ID: &str = "567910cd-659e-55d4-8ccb-5aaf14679dc0";
const TAKEN: &str = r#"{"MessageId":"567910cd-659e-55d4-8ccb-5aaf14679dc0"}"#;
const VECTORS: &str = include_str!("../../../tests/vectors/aws.json");

fn settings(base_url: &str, service: Service) -> Settings {
    let sns = service == Service::Sns;
    Settings {
        name: "aws".to_owned(),
        base_url: base_url.to_owned(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: SECRET.into(),
        region: "us-east-1".to_owned(),
        service,
        origination_identity: if sns { "" } else { "+15005550006" }.to_owned(),
        sender_id: if sns { "Acme" } else { "" }.to_owned(),
    }
}

fn service(case: &Value) -> Service {
    if case["provider"] == "aws_sns" { Service::Sns } else { Service::SmsVoice }
}

fn provider(settings: Settings) -> Aws {
    Aws::new(settings, transport::client().unwrap(), Clock::manual(WALL))
}

fn make(base_url: &str, client: reqwest::Client) -> Arc<dyn Provider> {
    let settings = settings(base_url, Service::SmsVoice);
    Arc::new(Aws::new(settings, client, Clock::manual(WALL)))
}

#[test]
fn every_vector_is_signed_by_us_alike() {
    let mut signed = 0;
    for case in &cases(VECTORS) {
        let (service, request) = (service(case), &case["request"]);
        let (content_type, target) = match service {
            Service::Sns => (FORM, None),
            Service::SmsVoice => (JSON, Some("PinpointSMSVoiceV2.SendTextMessage")),
        };
        assert_eq!(request["headers"]["Content-Type"], content_type);
        let body = request["body"].as_str().unwrap().to_owned();
        let ours =
            authorization(&settings("", service), WALL, &Request { content_type, target, body });
        assert_eq!(ours, request["headers"]["Authorization"], "{}", name(case));
        assert_eq!(stamp(WALL), request["headers"]["X-Amz-Date"], "{}", name(case));
        signed += 1;
    }
    assert_eq!(signed, 8);
}

#[tokio::test]
async fn every_vector_that_we_can_send_is_what_reaches_the_vendor() {
    let mut sent = 0;
    // The two errors are for their answers: they have no sender.
    for case in cases(VECTORS).iter().filter(|case| !name(case).starts_with("error")) {
        let (service, inputs, request) = (service(case), &case["inputs"], &case["request"]);
        let theirs = case["response_fed"].as_str().unwrap();
        let (base_url, requests) = vendor(answer("200 OK", theirs.as_bytes())).await;
        let input = |one: &str, other: &str| inputs[one].as_str().or(inputs[other].as_str());
        let to = input("PhoneNumber", "DestinationPhoneNumber").unwrap();
        let mut message = message(to, "482913", 5, REFERENCE);
        input("Message", "MessageBody").unwrap().clone_into(&mut message.text);
        let settings = settings(&base_url, service);
        assert_eq!(provider(settings.clone()).send(&message).await, Outcome::accepted(ID));
        let seen = Seen::only(&requests);
        assert_eq!(seen.line, "POST / HTTP/1.1");
        for header in ["Content-Type", "X-Amz-Date", "X-Amz-Target"] {
            let theirs = request["headers"][header].as_str().unwrap_or_default();
            assert_eq!(seen.header(&header.to_lowercase()), theirs, "{}", name(case));
        }
        let theirs = request["body"].as_str().unwrap();
        if service == Service::Sns {
            assert_eq!(pairs(&seen.body), pairs(theirs), "{}", name(case));
        } else {
            let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(json(&seen.body), json(theirs), "{}", name(case));
        }
        // Whoever checks the signature signs what arrived.
        let again = match service {
            Service::Sns => publish(&settings, &message),
            Service::SmsVoice => send_text_message(&settings, &message),
        };
        assert_eq!(again.body, seen.body);
        assert_eq!(seen.header("authorization"), authorization(&settings, WALL, &again));
        sent += 1;
    }
    assert_eq!((sent, sent + 2), (6, cases(VECTORS).len()));
}

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings("", Service::SmsVoice);
    assert!(good().check().is_ok() && settings("", Service::Sns).check().is_ok());
    assert_eq!(good().base_url(), "https://sms-voice.us-east-1.amazonaws.com");
    let sns = settings("", Service::Sns);
    for (key, settings) in [
        ("base_url", settings("amazonaws.com", Service::Sns)),
        ("access_key_id", Settings { access_key_id: String::new(), ..good() }),
        ("secret_access_key", Settings { secret_access_key: "a b".into(), ..good() }),
        ("region", Settings { region: String::new(), ..good() }),
        ("origination_identity", Settings { origination_identity: "x".into(), ..sns }),
        ("sender_id", Settings { sender_id: "Acme".into(), ..good() }),
    ] {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
}

#[test]
fn every_exception_has_its_class_in_json_and_xml() {
    for pair in TABLE.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
    for entry in TABLE {
        let code = entry.first;
        let forms = [
            json!({ "__type": format!("com.amazonaws.x#{code}Exception"), "Message": "x" })
                .to_string(),
            json!({ "__type": code }).to_string(),
            format!("<Error><Code>{code}</Code><Message>x</Message></Error>"),
        ];
        for (form, status) in
            forms.iter().flat_map(|form| [400, 403, 429, 500].map(|it| (form, it)))
        {
            let outcome = read_answer(status, form.as_bytes());
            assert_eq!(outcome, Outcome::of(entry.class, code), "{status} {form}");
        }
        assert!(explain(code).unwrap().starts_with(code));
    }
    let recorded = cases(VECTORS);
    let classes: Vec<_> = recorded
        .iter()
        .filter(|case| name(case).starts_with("error"))
        .map(|case| read_answer(400, case["response_fed"].as_str().unwrap().as_bytes()).class)
        .collect();
    assert_eq!(classes, [Class::BlockedNumber, Class::RateLimitedAccount]);
}

#[test]
fn an_exception_that_means_several_things_is_told_apart() {
    for (code, member, about, class) in [
        ("Conflict", "Reason", "DESTINATION_PHONE_NUMBER_OPTED_OUT", Class::BlockedNumber),
        ("Conflict", "Reason", "DESTINATION_COUNTRY_BLOCKED", Class::UnsupportedDestination),
        ("Conflict", "Reason", "SOMETHING_ELSE", Class::TemplateRejected),
        ("InvalidParameter", "Message", "Invalid parameter: PhoneNumber", Class::InvalidNumber),
        ("InvalidParameter", "Message", "Message too long", Class::ContentRejected),
        ("InvalidParameter", "Message", "", Class::BadRequest),
    ] {
        let body = json!({ "__type": code, member: about }).to_string();
        assert_eq!(read_answer(400, body.as_bytes()), Outcome::of(class, code), "{about}");
    }
}

#[test]
fn what_cannot_be_read_has_its_outcome() {
    let xml = format!("<PublishResponse><MessageId>{ID}</MessageId></PublishResponse>");
    assert_eq!(read_answer(200, xml.as_bytes()), Outcome::accepted(ID));
    for whole in [TAKEN, &xml] {
        for end in 0..whole.len() {
            let outcome = read_answer(200, &whole.as_bytes()[..end]);
            assert_eq!(outcome, unknown("no-message-id"), "{end}");
        }
    }
    for (status, body, class, code) in [
        (200, "{}", Class::UnknownOutcome, "no-message-id"),
        (200, r#"{"MessageId":"<b>"}"#, Class::UnknownOutcome, "no-message-id"),
        (204, "", Class::UnknownOutcome, "http-204"),
        (302, TAKEN, Class::UnknownOutcome, "http-302"),
        (400, "<html>", Class::BadRequest, "http-400"),
        (400, r#"{"__type":"13800138000"}"#, Class::BadRequest, "http-400"),
        (403, "", Class::AuthFailed, "http-403"),
        (400, r#"{"__type":"x#SomethingNewException"}"#, Class::BadRequest, "SomethingNew"),
        (500, r#"{"__type":"x#SomethingNewException"}"#, Class::UnknownOutcome, "SomethingNew"),
        (503, "", Class::UnknownOutcome, "http-503"),
    ] {
        let outcome = read_answer(status, body.as_bytes());
        assert_eq!(outcome, Outcome::of(class, code), "{status} {body}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(read_answer(200, &body).class, Class::UnknownOutcome);
        prop_assert_eq!(read_answer(500, &body).class, Class::UnknownOutcome);
    }
}

#[tokio::test]
async fn credentials_are_tried_without_sending() {
    for service in [Service::SmsVoice, Service::Sns] {
        for (status, body, expected) in [
            ("200 OK", "{}", Ok(true)),
            (
                "403 Forbidden",
                r#"{"__type":"UnrecognizedClientException"}"#,
                Err(Outcome::of(Class::AuthFailed, "UnrecognizedClient")),
            ),
            ("502 Bad Gateway", "", Err(Outcome::of(Class::ProviderError, "http-502"))),
        ] {
            let (base_url, requests) = vendor(answer(status, body.as_bytes())).await;
            assert_eq!(provider(settings(&base_url, service)).try_credentials().await, expected);
            let seen = Seen::only(&requests);
            let asked = format!("{}{}", seen.header("x-amz-target"), seen.body);
            assert!(asked.contains("DescribeAccountLimits") || asked.contains("GetSMSAttributes"));
        }
    }
}

#[tokio::test]
async fn whatever_goes_wrong_on_the_wire_has_its_outcome() {
    stub::assert_wire(&make, "200 OK", TAKEN, ID).await;
}

#[tokio::test]
async fn neither_key_nor_code_is_ever_printed() {
    let quoting = format!(r#"{{"MessageId":"{SECRET} 004217 13800138000"}}"#);
    stub::assert_silent(&make, &[TAKEN, &quoting], &[SECRET, "Signature="]).await;
    assert_eq!(a_message().phone.e164(), "+8613800138000", "which is looked for above");
}
