//! Signs tokens, and publishes the keys to check them with.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::domain::token::Claims;
use crate::keys::Ring;

/// A public key, as RFC 8037 writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: &'static str,
    /// Always `Ed25519`.
    pub crv: &'static str,
    /// Always `EdDSA`.
    pub alg: &'static str,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub usage: &'static str,
    /// The key's name, as in a token's header.
    pub kid: String,
    /// The public key, base64url.
    pub x: String,
}

/// The published keys: the one that signs, and those whose tokens may still be about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct JwkSet {
    /// The keys.
    pub keys: Vec<Jwk>,
}

/// Signs the claims with the active key: a JWS in its compact form (RFC 7515, RFC 8037).
pub fn sign(ring: &Ring, claims: &Claims) -> String {
    let (kid, pair) = ring.token_pairs().next().expect("a ring holds a token key");
    let head = Head { alg: "EdDSA", typ: "JWT", kid };
    let mut token = format!("{}.{}", part(&head), part(claims));
    let signature = pair.sign(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

#[derive(Serialize)]
struct Head<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

fn part(of: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(of).expect("heads and claims are plain JSON"))
}

/// The keys to publish.
pub fn jwks(ring: &Ring) -> JwkSet {
    let jwk = |(kid, pair): (&str, &Ed25519KeyPair)| Jwk {
        kty: "OKP",
        crv: "Ed25519",
        alg: "EdDSA",
        usage: "sig",
        kid: kid.to_owned(),
        x: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
    };
    JwkSet { keys: ring.token_pairs().map(jwk).collect() }
}
