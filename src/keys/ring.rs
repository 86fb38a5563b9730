//! What the keys can do. Values never leave this file.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::clock::{DAY, HOUR, Millis};
use crate::domain::altcha;
use crate::domain::id::PARTITIONS;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Names phones, addresses and people in the store.
    Fingerprint,
    /// Digests codes.
    Pepper,
    /// Derives pictures and seals minted challenges.
    Challenge,
    /// Seals numbers and letters.
    Sealing,
    /// Signs tokens.
    Token,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Fingerprint, Self::Pepper, Self::Challenge, Self::Sealing, Self::Token];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fingerprint => "fingerprint",
            Self::Pepper => "pepper",
            Self::Challenge => "challenge",
            Self::Sealing => "sealing",
            Self::Token => "token",
        }
    }

    /// How long a key is still accepted after a newer one took its place: longer than anything
    /// lives that it made. `None`: it cannot be rotated.
    pub fn overlap(self) -> Option<Millis> {
        match self {
            Self::Fingerprint => None,
            Self::Pepper | Self::Challenge => Some(HOUR),
            Self::Sealing | Self::Token => Some(DAY),
        }
    }
}

/// One key, as it is written down.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredKey {
    pub(super) id: String,
    #[serde(rename = "use")]
    pub(super) usage: Use,
    pub(super) created_at: Millis,
    pub(super) secret: String,
}

impl StoredKey {
    pub(super) fn bytes(&self) -> Option<[u8; 32]> {
        URL_SAFE_NO_PAD.decode(&self.secret).ok()?.try_into().ok()
    }
}

/// What may be told about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub id: String,
    /// What it is for.
    pub usage: Use,
    /// When it was made, by the wall clock.
    pub created_at: Millis,
    /// Whether it is the one that signs, seals and digests.
    pub active: bool,
}

/// A key with what is worked out of its bytes once.
struct Key {
    info: KeyInfo,
    mac: hmac::Key,
    aead: RandomizedNonceKey,
    /// For signing, in a key for tokens.
    pair: Option<Ed25519KeyPair>,
    /// For proofs of work, in a key for challenges.
    altcha: Option<altcha::Keys>,
}

impl Key {
    fn new(stored: &StoredKey, active: bool) -> Option<Self> {
        let bytes = stored.bytes()?;
        let (id, usage, created_at) = (stored.id.clone(), stored.usage, stored.created_at);
        let pair = (usage == Use::Token).then(|| {
            Ed25519KeyPair::from_seed_unchecked(&bytes).expect("any 32 bytes are an Ed25519 seed")
        });
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        // Pictures are derived under labels that begin with their length, so these are no others'.
        let altcha = (usage == Use::Challenge).then(|| {
            let [signature, key] = ["altcha signature", "altcha key signature"]
                .map(|label| hmac::sign(&mac, label.as_bytes()));
            altcha::Keys::new(signature.as_ref(), key.as_ref())
        });
        Some(Self {
            info: KeyInfo { id, usage, created_at, active },
            mac,
            altcha,
            aead: RandomizedNonceKey::new(&AES_256_GCM, &bytes).expect("the key has 256 bits"),
            pair,
        })
    }
}

/// The keyed name of something in the store.
pub type Fingerprint = [u8; 16];

/// All keys that are accepted, the active one of each use first.
pub struct Ring {
    keys: Vec<Key>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.info.id)).finish()
    }
}

impl Ring {
    /// The ring of these keys at this instant of the wall clock: of each use the newest, and
    /// those that are still in their overlap.
    pub(super) fn new(stored: &[StoredKey], wall: Millis) -> Option<Self> {
        let mut keys = Vec::new();
        for usage in Use::ALL {
            let mut of_use: Vec<_> = stored.iter().filter(|key| key.usage == usage).collect();
            of_use.sort_by_key(|key| std::cmp::Reverse(key.created_at));
            let mut replaced_at = None;
            for stored in of_use {
                let overlap = usage.overlap().unwrap_or(Millis::MAX / 2);
                if replaced_at.is_some_and(|at: Millis| at + overlap <= wall) {
                    break;
                }
                keys.push(Key::new(stored, replaced_at.is_none())?);
                replaced_at = Some(stored.created_at);
            }
        }
        let complete = Use::ALL.iter().all(|usage| keys.iter().any(|key| key.info.usage == *usage));
        complete.then_some(Self { keys })
    }

    /// What may be told about the keys.
    pub fn infos(&self) -> impl Iterator<Item = &KeyInfo> {
        self.keys.iter().map(|key| &key.info)
    }

    fn of(&self, usage: Use) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.info.usage == usage)
    }

    fn active(&self, usage: Use) -> &Key {
        self.of(usage).next().expect("a ring holds a key of every use")
    }

    /// The name of something in the store: keyed, so that a number cannot be found by trying all.
    /// 128 bits of the digest are enough for names that nobody can choose, and halve an index.
    pub fn fingerprint(&self, kind: &str, of: &[u8]) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.active(Use::Fingerprint).mac);
        context.update(&(kind.len() as u64).to_be_bytes());
        context.update(kind.as_bytes());
        context.update(of);
        *context.sign().as_ref().first_chunk().expect("HMAC-SHA-256 has 32 bytes")
    }

    /// The partition of something with this fingerprint.
    pub fn partition(fingerprint: &Fingerprint) -> u16 {
        u16::from_be_bytes([fingerprint[14], fingerprint[15]]) % PARTITIONS
    }

    /// The pepper for new codes, with its name.
    pub fn pepper(&self) -> (&str, &hmac::Key) {
        let key = self.active(Use::Pepper);
        (&key.info.id, &key.mac)
    }

    /// The pepper of this name, while it is accepted.
    pub fn pepper_named(&self, id: &str) -> Option<&hmac::Key> {
        self.of(Use::Pepper).find(|key| key.info.id == id).map(|key| &key.mac)
    }

    /// The keys of pictures, the active one first.
    pub fn challenge(&self) -> impl Iterator<Item = &hmac::Key> {
        self.of(Use::Challenge).map(|key| &key.mac)
    }

    /// The keys of proofs of work, the active one first.
    pub fn altcha(&self) -> impl Iterator<Item = &altcha::Keys> {
        self.of(Use::Challenge).filter_map(|key| key.altcha.as_ref())
    }

    /// Seals bytes so that only this ring opens them, and only for the same purpose.
    pub fn seal(&self, usage: Use, purpose: &[u8], plain: &[u8]) -> String {
        let key = self.active(usage);
        let mut sealed = plain.to_vec();
        let nonce = key
            .aead
            .seal_in_place_append_tag(Aad::from(purpose), &mut sealed)
            .expect("sealing a short text does not fail");
        let mut bytes = nonce.as_ref().to_vec();
        bytes.append(&mut sealed);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens what was sealed; nothing, if it was not sealed by a key of this ring for this purpose.
    pub fn open(&self, usage: Use, purpose: &[u8], sealed: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>()?;
        self.of(usage).find_map(|key| {
            let mut opened = sealed.to_vec();
            let nonce = Nonce::from(nonce);
            let plain = key.aead.open_in_place(nonce, Aad::from(purpose), &mut opened).ok()?;
            Some(plain.to_vec())
        })
    }

    /// The key pairs for tokens with their names, the active one first.
    pub fn token_pairs(&self) -> impl Iterator<Item = (&str, &Ed25519KeyPair)> {
        self.of(Use::Token).filter_map(|key| Some((key.info.id.as_str(), key.pair.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(id: &str, usage: Use, created_at: Millis) -> StoredKey {
        let secret = URL_SAFE_NO_PAD.encode([u8::try_from(id.len()).unwrap(); 32]);
        StoredKey { id: id.to_owned(), usage, created_at, secret }
    }

    fn ring(extra: &[StoredKey], wall: Millis) -> Ring {
        let mut keys: Vec<_> =
            Use::ALL.iter().map(|&usage| stored(usage.as_str(), usage, 0)).collect();
        keys.extend_from_slice(extra);
        Ring::new(&keys, wall).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let ring = ring(&[], 0);
        let sealed = ring.seal(Use::Sealing, b"letter", b"hello");
        assert_eq!(ring.open(Use::Sealing, b"letter", &sealed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(ring.open(Use::Sealing, b"phone", &sealed), None);
        assert_eq!(ring.open(Use::Challenge, b"letter", &sealed), None);
        assert_ne!(sealed, ring.seal(Use::Sealing, b"letter", b"hello"));
        for place in 0..sealed.len() {
            let mut broken = sealed.clone().into_bytes();
            broken[place] = if broken[place] == b'A' { b'B' } else { b'A' };
            let broken = String::from_utf8(broken).unwrap();
            assert_eq!(ring.open(Use::Sealing, b"letter", &broken), None, "at {place}");
        }
    }

    #[test]
    fn a_rotated_key_is_accepted_for_its_overlap() {
        let newer = stored("pepper-2", Use::Pepper, 1000);
        let before = ring(&[], 0);
        let sealed = before.seal(Use::Sealing, b"x", b"y");
        let after = ring(&[newer.clone(), stored("sealing-2", Use::Sealing, 1000)], 2000);
        assert_eq!(after.pepper().0, "pepper-2");
        assert!(after.pepper_named("pepper").is_some());
        assert!(after.open(Use::Sealing, b"x", &sealed).is_some());
        assert!(ring(&[newer], 1000 + HOUR).pepper_named("pepper").is_none());
    }

    #[test]
    fn a_ring_prints_names_and_no_values() {
        let printed = format!("{:?}", ring(&[], 0));
        assert_eq!(printed, r#"["fingerprint", "pepper", "challenge", "sealing", "token"]"#);
    }
}
