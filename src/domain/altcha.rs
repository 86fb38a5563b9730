//! Proof of work in the form that ALTCHA's widget speaks, versions 2 and 1.
//!
//! We choose a counter and give away the first half of the key that follows from it; whoever finds
//! the counter by trying knows the second half. What is handed out is signed, and a code of the
//! whole key stands under the signature, so judging a solution is two HMACs and no derivation: the
//! one derivation is paid when the puzzle is made. Names and forms are the protocol's
//! (<https://altcha.org/docs/v2/>), and so is the order of members: the signature is over them.
//!
//! Version 1 hashes once per try, which a native program does some hundred times faster than a
//! browser. It is for old widgets alone, where the configuration takes it.

use std::borrow::Cow;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What keys are derived with in version 2.
pub const ALGORITHM: &str = "PBKDF2/SHA-256";
/// What numbers are hashed with in version 1.
pub const ALGORITHM_V1: &str = "SHA-256";
/// Bytes of a derived key.
const KEY_LENGTH: usize = 32;
/// The longest solution that is looked at, in characters: an honest one has about 1 000.
pub const PAYLOAD_MAX: usize = 4096;

/// What signs puzzles, and the keys that solve them.
#[derive(Clone)]
pub struct Keys {
    signature: hmac::Key,
    key_signature: hmac::Key,
}

impl Keys {
    /// Of these two secrets.
    pub fn new(signature: &[u8], key_signature: &[u8]) -> Self {
        let key = |secret| hmac::Key::new(hmac::HMAC_SHA256, secret);
        Self { signature: key(signature), key_signature: key(key_signature) }
    }
}

/// What is drawn for a puzzle.
#[derive(Clone, Copy)]
pub struct Puzzle {
    /// What every try begins with.
    pub nonce: [u8; 16],
    /// The salt of the derivation.
    pub salt: [u8; 16],
    /// The number to be found.
    pub counter: u32,
}

/// What a puzzle carries for us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Data<'a> {
    /// The challenge's id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
}

/// What is to be solved, its members in the order in which they are signed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parameters<'a> {
    /// [`ALGORITHM`].
    #[serde(borrow)]
    pub algorithm: Cow<'a, str>,
    /// Rounds of one derivation.
    pub cost: u32,
    /// What it carries.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data<'a>>,
    /// When it ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Bytes of a key.
    pub key_length: usize,
    /// What the key begins with, in hexadecimal.
    #[serde(borrow)]
    pub key_prefix: Cow<'a, str>,
    /// The code of the whole key, in hexadecimal.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub key_signature: Option<Cow<'a, str>>,
    /// What every try begins with, in hexadecimal.
    #[serde(borrow)]
    pub nonce: Cow<'a, str>,
    /// The salt, in hexadecimal.
    #[serde(borrow)]
    pub salt: Cow<'a, str>,
}

/// A puzzle as it is handed out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Challenge<'a> {
    /// What is to be solved.
    #[serde(borrow)]
    pub parameters: Parameters<'a>,
    /// The code of the parameters, in hexadecimal.
    #[serde(borrow)]
    pub signature: Cow<'a, str>,
}

/// A puzzle of version 1.
#[derive(Clone, Debug, Serialize)]
pub struct ChallengeV1 {
    /// [`ALGORITHM_V1`].
    pub algorithm: &'static str,
    /// The hash to be met, in hexadecimal.
    pub challenge: String,
    /// The largest number that has to be tried.
    pub maxnumber: u32,
    /// What every try begins with.
    pub salt: String,
    /// The code of the hash, in hexadecimal.
    pub signature: String,
}

/// Makes a puzzle: one derivation.
pub fn challenge<'a>(
    keys: &Keys,
    puzzle: &Puzzle,
    cost: NonZeroU32,
    id: impl Into<Cow<'a, str>>,
    expires_at: i64,
) -> Challenge<'a> {
    let key = derive(cost, &puzzle.salt, &puzzle.nonce, puzzle.counter);
    let parameters = Parameters {
        algorithm: ALGORITHM.into(),
        cost: cost.get(),
        data: Some(Data { id: id.into() }),
        expires_at: Some(expires_at),
        key_length: KEY_LENGTH,
        key_prefix: hex::encode(&key[..KEY_LENGTH / 2]).into(),
        key_signature: Some(hex::encode(hmac::sign(&keys.key_signature, &key)).into()),
        nonce: hex::encode(puzzle.nonce).into(),
        salt: hex::encode(puzzle.salt).into(),
    };
    let signature = hex::encode(hmac::sign(&keys.signature, &canonical(&parameters)));
    Challenge { parameters, signature: signature.into() }
}

/// Makes a puzzle of version 1. Its salt ends in `&`, so that no digit of the number can be read
/// as the end of the salt.
pub fn challenge_v1(
    keys: &Keys,
    puzzle: &Puzzle,
    max: u32,
    id: &str,
    expires_at: i64,
) -> ChallengeV1 {
    let salt = format!("{}?expires={expires_at}&id={id}&", hex::encode(&puzzle.salt[..12]));
    let challenge = hash_v1(&salt, puzzle.counter.into());
    let signature = hex::encode(hmac::sign(&keys.signature, challenge.as_bytes()));
    ChallengeV1 { algorithm: ALGORITHM_V1, challenge, maxnumber: max, salt, signature }
}

/// The key of one try: the derivation that a solver repeats.
pub fn derive(cost: NonZeroU32, salt: &[u8], nonce: &[u8], counter: u32) -> [u8; KEY_LENGTH] {
    let password = [nonce, &counter.to_be_bytes()].concat();
    let mut key = [0; KEY_LENGTH];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, cost, salt, &password, &mut key);
    key
}

/// The hash of one try in version 1.
pub fn hash_v1(salt: &str, number: u64) -> String {
    hex::encode(digest::digest(&digest::SHA256, format!("{salt}{number}").as_bytes()))
}

/// The bytes that are signed: JSON without blanks, members in the order of their names.
fn canonical(parameters: &Parameters<'_>) -> Vec<u8> {
    serde_json::to_vec(parameters).expect("parameters are plain JSON")
}

/// What a solver gives back, taken out of its base64.
pub struct Payload(Vec<u8>);

/// A payload's version 2.
#[derive(Deserialize)]
struct Solved<'a> {
    #[serde(borrow)]
    challenge: Challenge<'a>,
    #[serde(borrow)]
    solution: Solution<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Solution<'a> {
    #[serde(borrow)]
    derived_key: Cow<'a, str>,
}

/// A payload's version 1.
#[derive(Deserialize)]
struct SolvedV1<'a> {
    #[serde(borrow)]
    algorithm: Cow<'a, str>,
    #[serde(borrow)]
    challenge: Cow<'a, str>,
    number: u64,
    #[serde(borrow)]
    salt: Cow<'a, str>,
    #[serde(borrow)]
    signature: Cow<'a, str>,
}

/// What a server's own payload carries: the id of what was passed already.
#[derive(Serialize, Deserialize)]
struct Vouched<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    verified: bool,
}

/// What a payload claims, and whether that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A solution of version 2.
    Solution {
        /// The challenge's id.
        id: String,
        /// Whether it is ours, whole, and right.
        right: bool,
    },
    /// A solution of version 1.
    SolutionV1 {
        /// The challenge's id.
        id: String,
        /// Whether it is ours, whole, and right.
        right: bool,
    },
    /// What we vouched for before; only the id's own seal says whether that is true.
    Vouched {
        /// The id.
        id: String,
    },
}

impl Claim {
    /// The id that it names.
    pub fn id(&self) -> &str {
        match self {
            Self::Solution { id, .. } | Self::SolutionV1 { id, .. } | Self::Vouched { id } => id,
        }
    }
}

impl Payload {
    /// Takes a payload out of its base64; nothing, if it is none or too long.
    pub fn decode(text: &str) -> Option<Self> {
        let text = Some(text.trim()).filter(|text| text.len() <= PAYLOAD_MAX)?;
        STANDARD.decode(text).ok().map(Self)
    }

    /// The payload that says what we vouch for, as a widget hands it on.
    pub fn vouch(id: &str) -> String {
        let vouched = Vouched { id: id.into(), verified: true };
        STANDARD.encode(serde_json::to_vec(&vouched).expect("it is plain JSON"))
    }

    /// What it claims. Any of these keys may have signed it; nothing, if it is not of a form that
    /// is known here or carries no id.
    pub fn claim(&self, keys: &[&Keys]) -> Option<Claim> {
        if let Ok(solved) = serde_json::from_slice::<Solved<'_>>(&self.0) {
            let id = solved.challenge.parameters.data.as_ref()?.id.clone().into_owned();
            return Some(Claim::Solution { id, right: keys.iter().any(|keys| solved.holds(keys)) });
        }
        if let Ok(solved) = serde_json::from_slice::<SolvedV1<'_>>(&self.0) {
            let id = solved.id()?;
            let right = keys.iter().any(|keys| solved.holds(keys));
            return Some(Claim::SolutionV1 { id, right });
        }
        let vouched = serde_json::from_slice::<Vouched<'_>>(&self.0).ok()?;
        Some(Claim::Vouched { id: vouched.id.into_owned() })
    }
}

impl Solved<'_> {
    fn holds(&self, keys: &Keys) -> bool {
        let parameters = &self.challenge.parameters;
        let ours = parameters.algorithm == ALGORITHM && parameters.key_length == KEY_LENGTH;
        let signed = coded(&keys.signature, &canonical(parameters), &self.challenge.signature);
        let Some(code) = &parameters.key_signature else { return false };
        let mut key = [0; KEY_LENGTH];
        let read = hex::decode_to_slice(self.solution.derived_key.as_bytes(), &mut key).is_ok();
        ours && signed && read && coded(&keys.key_signature, &key, code)
    }
}

impl SolvedV1<'_> {
    /// The id in the salt; there must be one and no second.
    fn id(&self) -> Option<String> {
        let (_, query) = self.salt.split_once('?')?;
        let mut ids = query.split('&').filter_map(|pair| pair.strip_prefix("id="));
        ids.next().filter(|_| ids.next().is_none()).map(str::to_owned)
    }

    fn holds(&self, keys: &Keys) -> bool {
        // The hash is over salt and number side by side: without the `&` between them, digits of
        // the number could be moved into the salt, and `expires=17…` would become `expires=17…1`.
        let closed = self.salt.ends_with('&') && self.algorithm == ALGORITHM_V1;
        let met = hash_v1(&self.salt, self.number) == self.challenge;
        closed && met && coded(&keys.signature, self.challenge.as_bytes(), &self.signature)
    }
}

/// Whether this is the code of these bytes, in hexadecimal; compared in constant time.
fn coded(key: &hmac::Key, bytes: &[u8], code: &str) -> bool {
    let mut given = [0; 32];
    let read = hex::decode_to_slice(code.as_bytes(), &mut given).is_ok();
    read && hmac::verify(key, bytes, &given).is_ok()
}

#[cfg(test)]
mod tests;
