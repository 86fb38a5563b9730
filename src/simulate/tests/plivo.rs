//! Plivo's client, as recorded, and a receipt as our own provider reads it.

use super::*;
use crate::providers::plivo::{Plivo, Settings as PlivoSettings};
use crate::providers::{Provider, Pushed, transport};
use crate::simulate::control::ScriptedReceipt;

const VECTORS: &str = include_str!("../../../tests/vectors/plivo.json");

fn forged(change: impl Fn(&mut Recorded)) -> String {
    let mut forged = recorded(VECTORS).remove(0);
    change(&mut forged);
    forged.asked(&[])
}

/// The answer to the first recorded request, with one of its fields changed or left out.
fn field(name: &str, value: Option<&Value>) -> String {
    forged(|it| {
        let mut body: Value = serde_json::from_str(&it.body).unwrap();
        match value {
            Some(value) => body[name] = value.clone(),
            None => drop(body.as_object_mut().unwrap().remove(name)),
        }
        it.body = body.to_string();
    })
}

#[test]
fn plivos_client_is_understood() {
    let taken = "202";
    let expected = [("ascii", taken), ("chinese", taken), ("odd", taken), ("three_numbers", taken)];
    assert_answers(VECTORS, &[], &expected);
    let three = recorded(VECTORS).remove(3);
    let simulator = Simulator::new(Settings::default(), Clock::manual(three.wall));
    let answer = simulator.answer(&three.call()).answer;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let names: std::collections::BTreeSet<_> =
        body["message_uuid"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(names.len(), 3, "each number is a message of its own");
    assert_eq!(simulator.desk.inbox(Some("+15558675311"), 9).len(), 1);
}

#[test]
fn what_is_not_in_order_is_refused() {
    for (why, told) in [
        ("no credentials", forged(|it| it.header("authorization").clear())),
        ("other ones", forged(|it| *it.header("authorization") = "Basic YTpi".to_owned())),
    ] {
        assert_eq!(told, "401", "{why}");
    }
    let good = recorded(VECTORS).remove(0);
    assert_eq!(good.asked(&["plivo.auth_token=another"]), "401");
    assert_eq!(forged(|it| it.path = it.path.replace("01X", "02X")), "404", "another account");
    assert_eq!(forged(|it| it.path = it.path.replace("Message/", "Call/")), "404", "no voice");
    let form = "application/x-www-form-urlencoded";
    assert_eq!(forged(|it| *it.header("content-type") = form.to_owned()), "400");
    assert_eq!(forged(|it| it.body.truncate(20)), "400");
    for name in ["src", "dst", "text"] {
        assert_eq!(field(name, None), "400", "{name}");
    }
    let (long, unicode) = ("a".repeat(1601), "验".repeat(738));
    let wrong: [(&str, Value); 14] = [
        ("src", "+14155550101".into()),
        ("dst", "+14155550100".into()),
        ("dst", "call me".into()),
        ("dst", "+15558675310<12".into()),
        ("type", "whatsapp".into()),
        ("text", long.into()),
        ("text", unicode.into()),
        ("log", "no".into()),
        ("trackable", "false".into()),
        ("url", "otp.example.com".into()),
        ("method", "PUT".into()),
        ("message_expiry", 4.into()),
        ("message_expiry", 10_800.into()),
        ("message_expiry", "300".into()),
    ];
    for (name, value) in wrong {
        assert_eq!(field(name, Some(&value)), "400", "{name} {value}");
    }
    for (name, value) in [
        ("src", Some(Value::from("14155550100"))),
        ("dst", Some("1 (555) 867-5310".into())),
        ("message_expiry", Some(300.into())),
        ("log", Some("false".into())),
        ("url", None),
        ("type", None),
    ] {
        assert_eq!(field(name, value.as_ref()), "202", "{name}");
    }
}

#[test]
fn a_receipt_is_pushed_as_our_provider_reads_it_and_can_be_asked_for() {
    for (receipt, code, arrived, told) in [
        (ScriptedReceipt::Delivered, "", true, "delivered"),
        (ScriptedReceipt::Failed, "", false, "80"),
        (ScriptedReceipt::Failed, "30", false, "30"),
    ] {
        let mut asked = recorded(VECTORS).remove(0);
        let (reference, here) = ("67756c75020100112233445566778899", "https://otp.example.com/r");
        let url = format!("{here}?reference={reference}");
        asked.body = asked.body.replace("https://otp.example.com/cb/plivo", &url);
        let clock = Clock::manual(asked.wall);
        let simulator = Simulator::new(Settings::default(), clock.clone());
        let receipt_code = code.to_owned();
        simulator.desk.set_script(Script { receipt, receipt_code, ..Script::default() });
        assert_eq!(code_of(&simulator, &asked), "202");
        let sent = simulator.desk.inbox(None, 1).remove(0);
        assert_eq!(sent.order.reference, reference);

        let account = &simulator.settings.accounts["plivo"];
        let push = (crate::simulate::plivo::DIALECT.push.unwrap())(account, &sent, &url);
        let mut headers = reqwest::header::HeaderMap::new();
        for (name, value) in &push.headers {
            headers.insert(*name, value.parse().unwrap());
        }
        let settings = PlivoSettings {
            name: "pl".into(),
            base_url: "http://127.0.0.1:1".into(),
            auth_id: account.get("auth_id").into(),
            auth_token: account.get("auth_token").into(),
            from: account.get("from").into(),
        };
        let provider = Plivo::new(settings, transport::client().unwrap(), Some(here.to_owned()));
        let pushed = Pushed { url: &url, headers: &headers, body: push.body.as_bytes() };
        let read = provider.read_receipts(&pushed).unwrap().receipts;
        assert_eq!((read.len(), read[0].arrived), (1, arrived));
        assert_eq!((read[0].message_id.as_str(), read[0].vendor_code.as_str()), (&*sent.id, told));

        let mut fetch = recorded(VECTORS).remove(0);
        (fetch.method, fetch.path) = ("GET".to_owned(), format!("{}{}/", fetch.path, sent.id));
        let state = |simulator: &Simulator| {
            let answer = simulator.answer(&fetch.call()).answer;
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            body["message_state"].as_str().unwrap().to_owned()
        };
        assert_eq!(state(&simulator), "queued");
        clock.advance(SECOND);
        assert_eq!(state(&simulator), if arrived { "delivered" } else { "undelivered" });
    }
}

fn code_of(simulator: &Simulator, asked: &Recorded) -> String {
    code(&simulator.answer(&asked.call()).answer)
}
