//! What the vendor reports, pushed and pulled.

use super::*;

fn arrived() -> Receipt {
    Receipt {
        about: "otp20250101a1b2c3".into(),
        message_id: SID.to_owned(),
        arrived: true,
        vendor_code: "DELIVRD".to_owned(),
    }
}

#[test]
fn a_pushed_receipt_says_whether_the_message_arrived() {
    let recorded = recorded();
    assert_eq!(read_pushed(recorded.arrived.to_string().as_bytes()), [arrived()]);
    let failed = Receipt {
        about: "otp2".into(),
        message_id: "ff8080813c373cab013c94b0f0512346".to_owned(),
        arrived: false,
        vendor_code: "UNDELIV".to_owned(),
    };
    assert_eq!(read_pushed(recorded.failed.to_string().as_bytes()), [failed]);
    let mut numbers = recorded.arrived;
    numbers["Request"]["smsType"] = json!(1);
    numbers["Request"]["status"] = json!(0);
    assert_eq!(read_pushed(numbers.to_string().as_bytes()), [arrived()]);
}

#[test]
fn what_a_person_sends_to_us_is_not_a_receipt() {
    let mut uplink = recorded().arrived;
    uplink["Request"]["smsType"] = json!("0");
    uplink["Request"]["content"] = json!("TD");
    assert_eq!(read_pushed(uplink.to_string().as_bytes()), []);
}

#[test]
fn a_receipt_without_a_needed_field_is_passed_over() {
    let whole = recorded().arrived;
    for field in ["smsType", "content", "status", "reqId"] {
        for odd in [json!(null), json!(""), json!([]), json!({}), json!("\u{0}<x>"), json!(1.5)] {
            let mut odd_field = whole.clone();
            odd_field["Request"][field] = odd.clone();
            assert_eq!(read_pushed(odd_field.to_string().as_bytes()), [], "{field} {odd}");
        }
        let mut missing = whole.clone();
        missing["Request"].as_object_mut().unwrap().remove(field);
        assert_eq!(read_pushed(missing.to_string().as_bytes()), [], "{field}");
    }
    for field in ["fromNum", "dateSent", "recvTime", "action", "apiVersion", "smsCount"] {
        let mut missing = whole.clone();
        missing["Request"].as_object_mut().unwrap().remove(field);
        assert_eq!(read_pushed(missing.to_string().as_bytes()), [arrived()], "{field}");
    }
}

#[test]
fn a_carriers_code_is_kept_only_in_the_form_of_one() {
    let long = "a".repeat(17);
    let codes = [
        (json!("DELIVRD"), "DELIVRD"),
        (json!("MK:0001"), "MK:0001"),
        (json!(5), "5"),
        (json!(null), "garbled"),
        (json!(""), "garbled"),
        (json!("您的验证码"), "garbled"),
        (json!("a\nb"), "garbled"),
        (json!(long), "garbled"),
    ];
    for (code, kept) in codes {
        let mut receipt = recorded().arrived;
        receipt["Request"]["deliverCode"] = code;
        assert_eq!(read_pushed(receipt.to_string().as_bytes())[0].vendor_code, kept);
    }
}

#[test]
fn garbage_is_no_receipt() {
    let deep = "[".repeat(60_000);
    let bodies: [&[u8]; 10] = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{\"Request\":null}",
        b"{\"Request\":\"1\"}",
        b"{\"Request\":[1,2]}",
        b"{\"Request\":{\"smsType\":\"1\"",
        b"<?xml version=\"1.0\"?><Request></Request>",
        deep.as_bytes(),
    ];
    for body in bodies {
        assert_eq!(read_pushed(body), []);
    }
}

#[test]
fn pulled_receipts_are_read_and_no_receipt_is_an_empty_list() {
    let mut pulled = recorded().get_arrived;
    assert_eq!(read_pulled(200, pulled.to_string().as_bytes()), Ok(vec![arrived()]));
    let reports = pulled["reports"].as_array_mut().unwrap();
    reports.extend([json!({ "smsType": "0" }), json!(null), json!("x"), reports[0].clone()]);
    let twice = read_pulled(200, pulled.to_string().as_bytes());
    assert_eq!(twice, Ok(vec![arrived(), arrived()]));
    for none in [
        r#"{"statusCode":"112356","statusMsg":"x"}"#,
        r#"{"statusCode":"000000"}"#,
        r#"{"statusCode":"000000","reports":[]}"#,
        r#"{"statusCode":"000000","reports":null}"#,
    ] {
        assert_eq!(read_pulled(200, none.as_bytes()), Ok(vec![]), "{none}");
    }
    for (code, class) in [
        ("112329", Class::BadRequest),
        ("112330", Class::BadRequest),
        ("112354", Class::RateLimitedAccount),
        ("111109", Class::AuthFailed),
    ] {
        let refused = read_pulled(200, json!({ "statusCode": code }).to_string().as_bytes());
        assert_eq!(refused, Err(Outcome::of(class, code)));
    }
}

#[tokio::test]
async fn receipts_are_pulled_and_as_many_as_are_asked_for_fit() {
    // Every field that is known, every text as long as any seen.
    let report = json!({
        "action": "SMSArrived", "smsType": "1", "apiVersion": "2013-12-26", "content": SID,
        "fromNum": "8613800138000", "dateSent": "20250102003046",
        "recvTime": "20250102003050", "deliverCode": "DELIVRD", "status": "0",
        "reqId": REFERENCE, "smsCount": "1", "spCode": "10690876123456789012",
    });
    let count: usize = RECEIPTS_MAX.parse().unwrap();
    let body = json!({ "statusCode": "000000", "reports": vec![report; count] }).to_string();
    let (base_url, requests) = vendor(answer("200 OK", body.as_bytes())).await;
    let receipts = provider(&base_url).pull_receipts().await.unwrap();
    let expected = Receipt { about: REFERENCE.into(), ..arrived() };
    assert_eq!(receipts, vec![expected; count]);
    let line = format!("{}?{} ", cases()[17].path, cases()[17].query);
    assert!(requests.lock().unwrap()[0].contains(&line));
}

#[tokio::test]
async fn asking_for_receipts_never_claims_that_a_message_may_have_been_sent() {
    for (script, what) in [
        (Script::Close, "broken-off"),
        (answer("502 Bad Gateway", b""), "http-502"),
        (answer("200 OK", b"<html>"), "garbled"),
    ] {
        let (base_url, _) = vendor(script).await;
        let failed = provider(&base_url).pull_receipts().await;
        assert_eq!(failed, Err(Outcome::of(Class::ProviderError, what)));
    }
    let refused = answer("200 OK", br#"{"statusCode":"111109"}"#);
    let (base_url, _) = vendor(refused).await;
    let failed = provider(&base_url).pull_receipts().await;
    assert_eq!(failed, Err(Outcome::of(Class::AuthFailed, "111109")));
}

// --- what must not show -------------------------------------------------------------------
