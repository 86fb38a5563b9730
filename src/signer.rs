//! Signs tokens, and publishes the keys to check them with.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
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

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed")
}

/// Signs the claims with the active key.
pub fn sign(ring: &Ring, claims: &Claims) -> String {
    let (kid, seed) = ring.token_seeds().next().expect("a ring holds a token key");
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(kid.to_owned());
    let der = pair(seed).to_pkcs8().expect("a key that was just made can be written down");
    let key = EncodingKey::from_ed_der(der.as_ref());
    jsonwebtoken::encode(&header, claims, &key).expect("claims are plain JSON")
}

/// The keys to publish.
pub fn jwks(ring: &Ring) -> JwkSet {
    let jwk = |(kid, seed): (&str, &[u8; 32])| Jwk {
        kty: "OKP",
        crv: "Ed25519",
        alg: "EdDSA",
        usage: "sig",
        kid: kid.to_owned(),
        x: URL_SAFE_NO_PAD.encode(pair(seed).public_key().as_ref()),
    };
    JwkSet { keys: ring.token_seeds().map(jwk).collect() }
}
