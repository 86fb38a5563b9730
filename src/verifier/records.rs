//! Which record lies where. All that concerns one phone is in one partition, found by its keyed
//! fingerprint; ids carry their partition with them. A spent challenge, an address and an
//! idempotency key each lie in a partition of their own.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::View;
use crate::clock::Millis;
use crate::domain::id::{DeliveryId, VerificationId};
use crate::domain::limit::Window;
use crate::domain::minted::Minted;
use crate::domain::phone::Phone;
use crate::keys::{Fingerprint, Ring, Use};
use crate::store::Key;

const SPENT: u8 = 1;
const ADDRESS: u8 = 2;
const SENDS: u8 = 3;
const STANDING: u8 = 4;
/// The kind of verifications, which hold the codes.
pub const VERIFICATION: u8 = 5;
const DELIVERY: u8 = 6;
const IDEMPOTENCY: u8 = 7;
const LIVE_CODE: u8 = 8;
const CAP: u8 = 16;

/// A phone as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhoneName(Fingerprint);

impl PhoneName {
    /// The name of a phone.
    pub fn of(ring: &Ring, phone: &Phone) -> Self {
        Self(ring.fingerprint("phone", phone.e164().as_bytes()))
    }

    /// Takes back a name from a record.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = Fingerprint::default();
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The name, for a record.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// The bytes, for digests.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The partition that holds everything about this phone.
    pub fn partition(&self) -> u16 {
        Ring::partition(&self.0)
    }

    /// The key of its sends.
    pub fn sends(&self) -> Key {
        Key::new(self.partition(), SENDS, &self.0[..])
    }

    /// The key of its standing with a tenant and purpose.
    pub fn standing(&self, tenant: &str, purpose: &str) -> Key {
        let mut name = self.0.to_vec();
        name.extend_from_slice(tenant.as_bytes());
        name.push(0);
        name.extend_from_slice(purpose.as_bytes());
        Key::new(self.partition(), STANDING, name)
    }
}

/// The key of a verification.
pub fn verification(id: &VerificationId) -> Key {
    Key::new(id.partition(), VERIFICATION, id.as_bytes())
}

/// The key of a verification's live code.
pub fn live_code(id: &VerificationId) -> Key {
    Key::new(id.partition(), LIVE_CODE, id.as_bytes())
}

/// The key of a delivery.
pub fn delivery(id: &DeliveryId) -> Key {
    Key::new(id.partition(), DELIVERY, id.as_bytes())
}

/// The delivery that a key belongs to.
pub fn delivery_id(key: &Key) -> Option<DeliveryId> {
    (key.kind == DELIVERY).then(|| hex::encode(&key.name).parse().ok()).flatten()
}

/// The key that remembers a named challenge.
pub fn spent_named(ring: &Ring, tenant: &str, name: &str) -> Key {
    own_partition(ring, SPENT, "spent", format!("{tenant}\0{name}").as_bytes())
}

/// The key that remembers a minted challenge.
pub fn spent_minted(ring: &Ring, minted: &Minted) -> Key {
    let name = minted.record_name();
    let partition = Ring::partition(&ring.fingerprint("spent", &name));
    Key::new(partition, SPENT, name)
}

/// The key that remembers a third party's token.
pub fn spent_token(ring: &Ring, vendor: &str, site_key: &str, identity: &str) -> Key {
    let name = format!("{vendor}\0{site_key}\0{identity}");
    own_partition(ring, SPENT, "token", name.as_bytes())
}

/// The key of an address: an IPv4 address, or the /64 network of an IPv6 one.
pub fn address(ring: &Ring, address: IpAddr) -> Key {
    let network = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
    };
    own_partition(ring, ADDRESS, "address", &network)
}

/// The key of what is spent under a cap.
pub fn cap(ring: &Ring, name: &str) -> Key {
    own_partition(ring, CAP, "cap", name.as_bytes())
}

/// The key of an idempotency key.
pub fn idempotency(ring: &Ring, tenant: &str, key: &str) -> Key {
    own_partition(ring, IDEMPOTENCY, "idempotency", format!("{tenant}\0{key}").as_bytes())
}

fn own_partition(ring: &Ring, kind: u8, word: &str, of: &[u8]) -> Key {
    let fingerprint = ring.fingerprint(word, of);
    Key::new(Ring::partition(&fingerprint), kind, &fingerprint[..])
}

const PHONE_PURPOSE: &[u8] = b"phone";

/// Seals a number for as long as its verification is pending.
pub fn seal_phone(ring: &Ring, phone: &Phone) -> String {
    ring.seal(Use::Sealing, PHONE_PURPOSE, phone.e164().as_bytes())
}

/// Opens a sealed number.
pub fn open_phone(ring: &Ring, sealed: &str) -> Option<Phone> {
    let opened = ring.open(Use::Sealing, PHONE_PURPOSE, sealed)?;
    Phone::from_e164(std::str::from_utf8(&opened).ok()?)
}

/// What is kept of an address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Address {
    /// Messages asked for from there.
    pub asked: Window,
}

/// What is kept of an `Idempotency-Key`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// A digest of what was asked, with a key: the phone in it could be guessed otherwise.
    pub body: String,
    /// Where it stands.
    pub stage: RememberedStage,
}

/// Where a repeated request stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RememberedStage {
    /// Somebody is at it.
    InFlight {
        /// Until when it is theirs.
        until: Millis,
        /// The verification it is about: who takes over looks whether it landed.
        id: VerificationId,
    },
    /// It was answered.
    Done {
        /// With this.
        view: View,
    },
}
