//! What a token claims: that the holder of it proved control of a phone a moment ago.

use serde::{Deserialize, Serialize};

use crate::clock::{MINUTE, Millis, SECOND};

/// How long a token is good for.
pub const TTL: Millis = 5 * MINUTE;

/// The claims of a login token, a JWT signed with `EdDSA`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who says so: the `public_url`.
    pub iss: String,
    /// To whom: the tenant's id.
    pub aud: String,
    /// The person, by a name that is stable per tenant and phone and does not tell the number.
    pub sub: String,
    /// The number, E.164.
    pub phone_number: String,
    /// Always true: there is no token without it.
    pub phone_number_verified: bool,
    /// How it was proved: by text message (RFC 8176), which NIST calls a restricted way.
    pub amr: Vec<String>,
    /// What the code was asked for.
    pub purpose: String,
    /// The token's own name, for single use.
    pub jti: String,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
}

/// What a token is about.
#[derive(Clone, Debug)]
pub struct Proof<'a> {
    /// The `public_url`.
    pub issuer: &'a str,
    /// The tenant's id.
    pub tenant: &'a str,
    /// The person's name at this tenant.
    pub subject: String,
    /// The number.
    pub phone: &'a str,
    /// The purpose.
    pub purpose: &'a str,
    /// The token's name.
    pub jti: String,
}

impl Claims {
    /// The claims of a token made at this instant of the wall clock.
    pub fn new(proof: Proof<'_>, wall: Millis) -> Self {
        let iat = wall.div_euclid(SECOND);
        Self {
            iss: proof.issuer.to_owned(),
            aud: proof.tenant.to_owned(),
            sub: proof.subject,
            phone_number: proof.phone.to_owned(),
            phone_number_verified: true,
            amr: vec!["sms".to_owned()],
            purpose: proof.purpose.to_owned(),
            jti: proof.jti,
            iat,
            exp: iat + TTL / SECOND,
        }
    }
}
