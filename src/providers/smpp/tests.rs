//! Against recordings of another client and another message centre, and against a centre on a
//! port of this machine that follows a script.

mod centre;
mod stages;
mod tls;

use proptest::prelude::*;
use serde_json::Value;

use super::pdu::{Delivered, Pdu};
use super::receipts::Report;
use super::*;
use crate::providers::stub::{self, cases, name};

const VECTORS: &str = include_str!("../../../tests/vectors/smpp.json");
const PASSWORD: &str = "secret08";

fn settings(base_url: &str) -> Settings {
    Settings {
        name: "centre".to_owned(),
        base_url: base_url.to_owned(),
        system_id: "smpp1".to_owned(),
        password: PASSWORD.into(),
        system_type: String::new(),
        source: "Acme".to_owned(),
        source_ton: None,
        source_npi: None,
        service_type: String::new(),
        window: window(),
        enquire_link_seconds: enquire_link_seconds(),
        default_alphabet: default_alphabet(),
        ca_file: String::new(),
        tls: None,
    }
}

// --- recordings -------------------------------------------------------------------------------

fn pdu(recorded: &Value) -> Pdu {
    let mut bytes = hex::decode(recorded["hex"].as_str().unwrap()).unwrap();
    let pdu = Pdu::cut(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty());
    assert_eq!(Some(u64::from(pdu.status)), recorded["command_status"].as_u64());
    assert_eq!(Some(u64::from(pdu.sequence)), recorded["sequence"].as_u64());
    pdu
}

/// The recorded PDUs of one kind.
fn recorded<'a>(case: &'a Value, command: &str) -> Vec<&'a Value> {
    let pdus = case["pdus"].as_array().unwrap().iter();
    pdus.filter(|pdu| pdu["command"] == command).collect()
}

fn hex_of(pdu: &Pdu) -> String {
    hex::encode(pdu.bytes())
}

#[test]
fn every_recorded_message_is_made_by_us_alike() {
    let mut parts = 0;
    for case in &cases(VECTORS) {
        let text = |name: &str| case["inputs"][name].as_str().unwrap().to_owned();
        let settings = Settings { source: text("source_addr"), ..settings("smpp://127.0.0.1") };
        let message = Message {
            text: text("text"),
            ..stub::message(&format!("+{}", text("to")), "482913", 5, stub::REFERENCE)
        };
        let ours = settings.parts(&message, 0x2a).unwrap();
        let theirs = recorded(case, "submit_sm");
        assert_eq!(ours.len(), theirs.len(), "{}", name(case));
        for (body, theirs) in ours.into_iter().zip(theirs) {
            let sequence = u32::try_from(theirs["sequence"].as_u64().unwrap()).unwrap();
            let ours = Pdu::request(pdu::SUBMIT_SM, sequence, body);
            assert_eq!(hex_of(&ours), theirs["hex"], "{}", name(case));
            parts += 1;
        }
    }
    assert_eq!((cases(VECTORS).len(), parts), (9, 11));
}

#[test]
fn every_recorded_answer_is_read_and_every_recorded_receipt_is_understood() {
    let (mut answers, mut read) = (0, 0);
    for case in &cases(VECTORS) {
        let results = case["submit_results"].as_array().unwrap();
        for answer in recorded(case, "submit_sm_resp") {
            let answer = pdu(answer);
            let same = |it: &&Value| it["sequence"].as_u64() == Some(u64::from(answer.sequence));
            let theirs = results.iter().rfind(same).unwrap();
            assert_eq!(theirs["status"].as_u64(), Some(u64::from(answer.status)));
            let id = String::from_utf8_lossy(pdu::first_text(&answer.body)).into_owned();
            assert_eq!(id, theirs["message_id"].as_str().unwrap_or_default(), "{}", name(case));
            answers += 1;
        }
        let replies = recorded(case, "deliver_sm_resp");
        let reports = case["delivery_reports"].as_array().unwrap();
        for (place, delivered) in recorded(case, "deliver_sm").into_iter().enumerate() {
            let delivered = pdu(delivered);
            assert_eq!(hex_of(&delivered.answer(0)), replies[place]["hex"], "{}", name(case));
            let theirs = &reports[place];
            let arrived = theirs["message_state"] == 2;
            let expected = Report {
                id: theirs["receipted_message_id"].as_str().unwrap().to_owned(),
                phone: case["inputs"]["to"].as_str().unwrap().trim_start_matches('+').to_owned(),
                arrived,
                code: if arrived { "DELIVRD" } else { "UNDELIV:027" }.to_owned(),
            };
            assert_eq!(read_report(&delivered.body), Some(expected.clone()), "{}", name(case));
            // The same from the text alone, without the fields behind it.
            let end = delivered.body.windows(4).rposition(|it| it == [0, 0x1e, 0, 9]).unwrap();
            assert_eq!(read_report(&delivered.body[..end]), Some(expected), "{}", name(case));
            read += 1;
        }
    }
    assert_eq!((answers, read), (11, 9));
}

fn read_report(body: &[u8]) -> Option<Report> {
    Delivered::read(body).and_then(|delivered| receipts::report(&delivered))
}

#[test]
fn log_on_and_off_are_as_recorded() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    for (place, password) in [(0, PASSWORD), (2, "wrong")] {
        let ours = Pdu::request(pdu::BIND_TRANSCEIVER, 2, pdu::bind("esme1", password, ""));
        assert_eq!(hex_of(&ours), vectors["bind"][place]["hex"]);
    }
    let refused = pdu(&vectors["bind"][3]);
    assert_eq!(status::refusal(refused.status), Outcome::of(Class::AuthFailed, "0x0e"));
    let unbind = Pdu::request(pdu::UNBIND, 23, vec![]);
    assert_eq!(hex_of(&unbind), vectors["unbind"][0]["hex"]);
    assert_eq!(hex_of(&unbind.answer(0)), vectors["unbind"][1]["hex"]);
}

// --- settings ---------------------------------------------------------------------------------

#[test]
fn settings_that_cannot_work_are_named_with_a_remedy() {
    let good = || settings("smpp://smsc.example:2775");
    assert!(good().check().is_ok());
    let text = str::to_owned;
    for (key, settings) in [
        ("base_url", settings("http://smsc.example:2775")),
        ("base_url", settings("smpp://smsc.example/x")),
        ("base_url", settings("smpp://user@smsc.example")),
        ("base_url", settings("")),
        ("system_id", Settings { system_id: String::new(), ..good() }),
        ("password", Settings { password: "a b".into(), ..good() }),
        ("system_type", Settings { system_type: text("thirteen-long"), ..good() }),
        ("source", Settings { source: text("TwelveLetter"), ..good() }),
        ("source", Settings { source: text("验证码"), ..good() }),
        ("source", Settings { source: text("+1234567890123456"), ..good() }),
        ("source", Settings { source: String::new(), ..good() }),
        ("service_type", Settings { service_type: text("sixsix"), ..good() }),
        ("window", Settings { window: 0, ..good() }),
        ("enquire_link_seconds", Settings { enquire_link_seconds: 1, ..good() }),
    ] {
        let Err(Misfit::Unfit(unfit)) = settings.check() else { panic!("{key}") };
        assert_eq!(unfit.iter().map(|unfit| unfit.key).collect::<Vec<_>>(), [key]);
        assert!(unfit[0].advice.len() > 40, "{key}");
    }
    for (url, ca_file) in [
        ("smpp://smsc.example", "a.pem"),
        ("smpps://smsc.example", "no/such.pem"),
        ("smpps://smsc.example", "Cargo.toml"),
    ] {
        let settings = Settings { ca_file: text(ca_file), ..settings(url) };
        let Err(Misfit::Unfit(unfit)) = settings.trust() else { panic!("{ca_file}") };
        assert_eq!(unfit[0].key, "ca_file");
    }
    assert!(settings("smpps://smsc.example").trust().unwrap().is_some());
    assert!(good().trust().unwrap().is_none());
}

#[test]
fn a_sender_has_the_type_of_its_form_unless_it_is_written() {
    let source = |text: &str| {
        let Address { ton, npi, text } =
            Settings { source: text.to_owned(), ..settings("smpp://h") }.source();
        (ton, npi, text)
    };
    assert_eq!(source("Acme 24"), (5, 0, "Acme 24".to_owned()));
    assert_eq!(source("10690"), (3, 0, "10690".to_owned()));
    assert_eq!(source("+447700900123"), (1, 1, "447700900123".to_owned()));
    let own = Settings { source_ton: Some(0), source_npi: Some(1), ..settings("smpp://h") };
    assert_eq!((own.source().ton, own.source().npi), (0, 1));
}

#[test]
fn ports_have_defaults_and_clear_text_is_cautioned_about() {
    let at = |url| place(url).unwrap();
    assert_eq!(at("smpp://h"), (false, "h".to_owned(), 2775));
    assert_eq!(at("smpps://h/"), (true, "h".to_owned(), 3550));
    assert_eq!(at("smpps://[::1]:99"), (true, "::1".to_owned(), 99));
    let told = |url: &str| caution(&format!("base_url = {url:?}").parse().unwrap()).is_some();
    assert!(told("smpp://smsc.example") && told("smpp://10.0.0.1:2775"));
    for fine in
        ["smpps://smsc.example", "smpp://127.0.0.1:2775", "smpp://[::1]", "smpp://localhost"]
    {
        assert!(!told(fine), "{fine}");
    }
}

// --- what is not as it should be --------------------------------------------------------------

#[test]
fn every_status_is_on_the_list_once_and_explained() {
    for pair in status::TABLE.windows(2) {
        assert!(pair[0].last < pair[1].first, "{pair:?}");
    }
    assert_eq!(status::TABLE.len(), 48);
    for entry in status::TABLE {
        assert!(entry.meaning.starts_with("ESME_"), "{entry:?}");
        assert!(explain(entry.first).unwrap().contains(entry.meaning));
    }
    for (status, class) in [
        (0x58, Class::RateLimitedAccount),
        (0x14, Class::RateLimitedAccount),
        (0x0b, Class::InvalidNumber),
        (0x0d, Class::AuthFailed),
        (0x0e, Class::AuthFailed),
        (0x45, Class::ProviderError),
        (0x08, Class::ProviderError),
        (0x400, Class::ProviderError),
        (u32::MAX, Class::ProviderError),
    ] {
        assert_eq!(status::refusal(status), Outcome::of(class, format!("{status:#04x}")));
    }
    assert_eq!(explain("0x400"), None);
    for ours in ["no-tls", "bind-timeout", "bind-broken-off", "bind-garbled", "window-full"] {
        assert!(explain(ours).unwrap().len() > 40, "{ours}");
    }
}

#[test]
fn receipts_are_read_however_centres_write_them() {
    let delivered = |esm_class: u8, text: &str, tlvs: &[u8]| {
        let mut body = b"\0\x01\x018613800138000\0\x05\0Acme\0".to_vec();
        body.extend([esm_class, 0, 0, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
        read_report(&[&body, text.as_bytes(), tlvs].concat())
    };
    let report = |id: &str, code: &str| {
        let (id, code, phone) = (id.to_owned(), code.to_owned(), "8613800138000".to_owned());
        Some(Report { id, phone, arrived: code == "DELIVRD", code })
    };
    let text = "id:7 sub:001 dlvrd:001 stat:DELIVRD err:000 text:";
    assert_eq!(delivered(4, text, &[]), report("7", "DELIVRD"));
    assert_eq!(delivered(4, "id:7 stat:DELIVRD", &[]), report("7", "DELIVRD"), "fields missing");
    assert_eq!(delivered(4, "id:7\tstat:rejectd err:a%b", &[]), report("7", "REJECTD"));
    assert_eq!(delivered(4, text, &[0, 5, 0]), report("7", "DELIVRD"), "bytes behind it");
    assert_eq!(delivered(0, text, &[]), None, "a message of a person's");
    assert_eq!(delivered(4, "stat:DELIVRD", &[]), None, "about which?");
    assert_eq!(delivered(4, "id:7", &[]), None, "what of it?");
    assert_eq!(delivered(4, "id:7 stat:NEW", &[]), None);
    for state in ["ENROUTE", "ACCEPTD", "UNKNOWN"] {
        assert_eq!(delivered(4, &format!("id:7 stat:{state}"), &[]), None, "{state}");
    }
    let named = [0, 0x1e, 0, 2, b'9', 0, 0x04, 0x27, 0, 1, 5, 0x04, 0x23, 0, 3, 3, 0, 27];
    assert_eq!(delivered(4, "", &named), report("9", "UNDELIV:27"), "fields alone");
    assert_eq!(delivered(0, text, &named), report("9", "UNDELIV:27"), "and without a class");
    let payload = [&[0x04, 0x24, 0, 17][..], b"id:8 stat:EXPIRED"].concat();
    assert_eq!(delivered(4, "", &payload), report("8", "EXPIRED"));
    assert_eq!(read_report(&[]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut read = bytes.clone();
        if let Ok(Some(pdu)) = Pdu::cut(&mut read) {
            prop_assert_eq!(pdu.bytes().len() + read.len(), bytes.len());
        }
        if let Some(report) = read_report(&bytes) {
            prop_assert!(report.id.len() <= 64 && report.code.len() <= 32);
        }
    }
}

#[test]
fn a_pdu_is_cut_when_it_is_whole_and_a_length_that_cannot_be_ends_it() {
    let whole = Pdu::request(pdu::ENQUIRE_LINK, 7, vec![]).bytes();
    for end in 0..whole.len() {
        assert!(matches!(Pdu::cut(&mut whole[..end].to_vec()), Ok(None)), "{end}");
    }
    let mut two = [&whole[..], &whole[..], &[0]].concat();
    assert!(Pdu::cut(&mut two).unwrap().is_some());
    assert!(Pdu::cut(&mut two).unwrap().is_some());
    assert_eq!(two, [0]);
    for length in [0_u32, 15, 64 * 1024 + 1, u32::MAX] {
        let mut bytes = length.to_be_bytes().to_vec();
        assert!(matches!(Pdu::cut(&mut bytes), Err(pdu::Garbled)), "{length}");
    }
}
