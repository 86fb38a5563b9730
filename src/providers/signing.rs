//! What the signatures of Aliyun, Tencent, Huawei and AWS have in common: a canonical request, its
//! digest, and HMACs over it. Each dialect says which headers, which text and which key.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use super::wire;
use crate::clock::{Millis, SECOND};

/// The SHA-256 of these bytes in small hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// HMAC with SHA-256.
pub fn hmac_sha256(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().to_vec()
}

/// The text in a URL: everything but letters, digits and `-_.~` in percent signs (RFC 3986).
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([byte]));
        }
    }
    out
}

/// Pairs as a query or a form. A space is `%20`, which every reader of forms knows, too.
pub fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pair = |(name, value)| format!("{}={}", encoded(name), encoded(value));
    pairs.into_iter().map(pair).collect::<Vec<_>>().join("&")
}

/// A request in the form that is signed.
pub struct Canonical<'a> {
    /// `POST` or `GET`.
    pub method: &'a str,
    /// The path, encoded.
    pub path: &'a str,
    /// The query, encoded and sorted.
    pub query: &'a str,
    /// The headers that are signed, sorted, their names in small letters.
    pub headers: &'a [(&'a str, &'a str)],
    /// The digest of the body, or the word that stands for one.
    pub payload: &'a str,
}

impl Canonical<'_> {
    /// The names of the signed headers: `host;x-date`.
    pub fn signed_headers(&self) -> String {
        self.headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";")
    }

    /// The text whose digest is signed.
    pub fn text(&self) -> String {
        let Self { method, path, query, payload, .. } = self;
        let header = |(name, value): &(&str, &str)| format!("{name}:{}\n", value.trim());
        let headers: String = self.headers.iter().map(header).collect();
        format!("{method}\n{path}\n{query}\n{headers}\n{}\n{payload}", self.signed_headers())
    }

    /// The digest of [`Self::text`].
    pub fn digest(&self) -> String {
        sha256_hex(self.text().as_bytes())
    }
}

/// Tencent's signature over a call of one of its products (TC3-HMAC-SHA256).
pub struct Tc3<'a> {
    /// The key's name (`SecretId`).
    pub id: &'a str,
    /// The key (`SecretKey`).
    pub key: &'a str,
    /// The product: `sms`, `captcha`.
    pub service: &'a str,
}

impl Tc3<'_> {
    /// The time as the vendor wants it, in a header and in the signature.
    pub fn seconds(wall: Millis) -> Millis {
        wall.div_euclid(SECOND)
    }

    /// The `Authorization` header for a body.
    pub fn authorization(
        &self,
        host: &str,
        path: &str,
        wall: Millis,
        content_type: &str,
        body: &[u8],
    ) -> String {
        let canonical = Canonical {
            method: "POST",
            path,
            query: "",
            headers: &[("content-type", content_type), ("host", host)],
            payload: &sha256_hex(body),
        };
        let date = wire::in_greenwich(wall, "%Y-%m-%d");
        let scope = format!("{date}/{}/tc3_request", self.service);
        let seconds = Self::seconds(wall);
        let to_sign = format!("TC3-HMAC-SHA256\n{seconds}\n{scope}\n{}", canonical.digest());
        let key = hmac_sha256(format!("TC3{}", self.key).as_bytes(), date.as_bytes());
        let key = hmac_sha256(&key, self.service.as_bytes());
        let key = hmac_sha256(&key, b"tc3_request");
        format!(
            "TC3-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={}",
            self.id,
            canonical.signed_headers(),
            hex::encode(hmac_sha256(&key, to_sign.as_bytes()))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unreserved_are_left_as_they_are() {
        assert_eq!(encoded("aZ09-_.~"), "aZ09-_.~");
        assert_eq!(encoded(" +*!'()/?&=%\n"), "%20%2B%2A%21%27%28%29%2F%3F%26%3D%25%0A");
        assert_eq!(encoded("云😀"), "%E4%BA%91%F0%9F%98%80");
        assert_eq!(query([("a b", "c&d"), ("e", "")]), "a%20b=c%26d&e=");
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        // RFC 4231, test case 2, and the SHA-256 of nothing.
        let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(mac), expected);
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b""), nothing);
    }
}
