//! The signature of Twilio's pushes: an HMAC over the address and the form's fields. It is checked
//! against the address as we gave it, not as a proxy passed it on, and with an algorithm that our
//! settings choose, not the push.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};

use crate::providers::{Pushed, signing, wire};

/// Whether a push is signed with the shared key, or with the token where there is no such key.
pub(super) fn is_good(token: &SecretString, shared: &SecretString, pushed: &Pushed<'_>) -> bool {
    let shared = shared.expose_secret();
    let key = if shared.is_empty() {
        let token = token.expose_secret().as_bytes();
        hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token)
    } else {
        hmac::Key::new(hmac::HMAC_SHA256, shared.as_bytes())
    };
    let header = |name: &str| pushed.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(given) = header("x-twilio-signature") else { return false };
    let Ok(given) = BASE64.decode(given) else { return false };
    let json = header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    let fields = if json { body_in_address(pushed) } else { fields(pushed.body) };
    let Some(fields) = fields else { return false };
    let signed = |url: &String| hmac::verify(&key, format!("{url}{fields}").as_bytes(), &given);
    addresses(pushed.url).iter().any(|url| signed(url).is_ok())
}

/// The decoded fields of a form in the order that is signed, each name and value once.
fn fields(body: &[u8]) -> Option<String> {
    let pairs: BTreeSet<_> = wire::form(std::str::from_utf8(body).ok()?).into_iter().collect();
    Some(pairs.into_iter().map(|(name, value)| name + &value).collect())
}

/// JSON is not signed itself; its digest stands in the address.
fn body_in_address(pushed: &Pushed<'_>) -> Option<String> {
    let (_, query) = pushed.url.split_once('?')?;
    let digest = wire::form(query).into_iter().find(|(name, _)| name == "bodySHA256")?.1;
    (digest == signing::sha256_hex(pushed.body)).then(String::new)
}

/// The address with and without its port: the vendor is of two minds about that.
fn addresses(url: &str) -> Vec<String> {
    let mut addresses = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return addresses };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let with_port = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let usual = if scheme == "https" { 443 } else { 80 };
    addresses.push(match with_port {
        Some((host, _)) => format!("{scheme}://{host}{path}"),
        None => format!("{scheme}://{authority}:{usual}{path}"),
    });
    addresses
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;
    use serde_json::Value;

    use super::*;

    fn check(case: &Value, url: &str, body: &str, signature: &str) -> bool {
        let token = SecretString::from(case["token"].as_str().unwrap());
        let (auth, shared) = match case["algorithm"].as_str().unwrap() {
            "HMAC_SHA1" => (token, SecretString::from("")),
            _ => (SecretString::from("another"), token),
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-twilio-signature", signature.parse().unwrap());
        let json = case["json_body"].is_string();
        let kind = if json { "application/json" } else { "application/x-www-form-urlencoded" };
        headers.insert("content-type", kind.parse().unwrap());
        is_good(&auth, &shared, &Pushed { url, headers: &headers, body: body.as_bytes() })
    }

    fn cases() -> Vec<Value> {
        let vectors = include_str!("../../../tests/vectors/twilio.json");
        let mut vectors: Value = serde_json::from_str(vectors).unwrap();
        vectors["webhook_signatures"].as_array_mut().map(std::mem::take).unwrap()
    }

    fn body(case: &Value) -> String {
        if let Some(json) = case["json_body"].as_str() {
            return json.to_owned();
        }
        let pairs = case["params"].as_object().unwrap().iter();
        signing::query(pairs.map(|(name, value)| (name.as_str(), value.as_str().unwrap())))
    }

    #[test]
    fn every_vector_is_good_and_nothing_near_it() {
        let cases = cases();
        assert_eq!(cases.len(), 8);
        for case in &cases {
            let (url, signature) =
                (case["url"].as_str().unwrap(), case["signature"].as_str().unwrap());
            let body = body(case);
            assert!(check(case, url, &body, signature), "{}", case["name"]);
            for forged in [
                check(case, &format!("{url}/"), &body, signature),
                check(case, &url.replace("https", "http"), &body, signature),
                check(case, url, &format!("{body}&x=1"), signature),
                check(case, url, "", signature) && !body.is_empty(),
                check(case, url, &body, ""),
                check(case, url, &body, "RSOYDt4T1cUTdK1PDd93/VVr8B9="),
                check(case, url, &body, &signature.to_lowercase()),
            ] {
                assert!(!forged, "{}", case["name"]);
            }
            let mut other = case.clone();
            other["token"] = "fake0auth0token00000000000000002".into();
            assert!(!check(&other, url, &body, signature), "{}", case["name"]);
        }
    }

    #[test]
    fn the_port_may_be_there_or_not_and_a_repeated_field_counts_once() {
        let cases = cases();
        let find = |name: &str| cases.iter().find(|case| case["name"] == name).unwrap();
        let case = find("status_with_port_signed_without");
        let signature = case["signature"].as_str().unwrap();
        let url = "https://otp.example.com:443/cb/twilio";
        assert!(check(case, url, &body(case), signature));
        let twice = format!("{}&SmsStatus=delivered", body(case));
        assert!(check(case, url, &twice, signature));
    }

    #[test]
    fn the_algorithm_is_not_the_pushs_to_choose() {
        let cases = cases();
        let case = cases.iter().find(|case| case["algorithm"] == "HMAC_SHA256").unwrap();
        let mut weaker = case.clone();
        weaker["algorithm"] = "HMAC_SHA1".into();
        let (url, signature) = (case["url"].as_str().unwrap(), case["signature"].as_str().unwrap());
        assert!(!check(&weaker, url, &body(case), signature));
    }
}
