//! Names of verifications and deliveries.
//!
//! A name begins with the time, to the millisecond, so that records made together lie together in
//! a sorted store: a commit of many then touches few pages. It goes on with the partition that
//! holds its record, so that a check finds its phone's partition from the id alone. The rest
//! cannot be guessed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::chance::Chance;
use crate::clock::Millis;

/// How many partitions the phones are spread over. A store may put each on another machine.
pub const PARTITIONS: u16 = 1 << PARTITION_BITS;
const PARTITION_BITS: u32 = 10;

/// Bytes in front of what cannot be guessed: 46 bits of milliseconds, then the partition.
const HEAD: usize = 7;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $random:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; HEAD + $random]);

        impl $name {
            /// A new name in this partition.
            pub fn draw(partition: u16, now: Millis, chance: &mut dyn Chance) -> Self {
                let mut random = [0; $random];
                chance.fill(&mut random);
                Self::with(partition, now, random)
            }

            /// A name whose unguessable part is given.
            pub fn with(partition: u16, now: Millis, random: [u8; $random]) -> Self {
                let head = now.unsigned_abs() << PARTITION_BITS | u64::from(partition % PARTITIONS);
                let mut bytes = [0; HEAD + $random];
                bytes[..HEAD].copy_from_slice(&head.to_be_bytes()[8 - HEAD..]);
                bytes[HEAD..].copy_from_slice(&random);
                Self(bytes)
            }

            /// The partition that holds the record.
            pub fn partition(&self) -> u16 {
                u16::from_be_bytes([self.0[HEAD - 2], self.0[HEAD - 1]]) % PARTITIONS
            }

            /// The bytes, for keys and digests.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let digits = text.strip_prefix($prefix).ok_or(NotAnId)?;
                let mut bytes = [0; HEAD + $random];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| NotAnId)?;
                let id = Self(bytes);
                // One spelling for each id.
                (id.to_string() == text).then_some(id).ok_or(NotAnId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// The name of a verification; 128 of its bits cannot be guessed.
    VerificationId,
    16,
    "vf_"
);
id!(
    /// The name of a delivery: 32 hexadecimal digits, so that it fits where providers take a
    /// reference of ours (Yuntongxun's `reqId` holds at most 32 letters and digits).
    DeliveryId,
    9,
    ""
);

/// A text that is not the name of anything.
#[derive(Debug, thiserror::Error)]
#[error("not an id")]
pub struct NotAnId;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::SeededChance;

    #[test]
    fn ids_print_and_parse_in_one_spelling() {
        let id = VerificationId::draw(513, 1_735_749_045_000, &mut SeededChance(1));
        let text = id.to_string();
        assert_eq!(text.parse::<VerificationId>().unwrap(), id);
        assert_eq!(id.partition(), 513);
        let wrong = [
            text.to_uppercase(),
            text.replace("vf_", ""),
            format!("{text}0"),
            text[..20].to_owned(),
            String::new(),
        ];
        for text in wrong {
            assert!(text.parse::<VerificationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_delivery_id_fits_a_providers_reference() {
        let id = DeliveryId::draw(7, 1_735_749_045_000, &mut SeededChance(1)).to_string();
        assert_eq!(id.len(), 32);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn later_ids_sort_later() {
        let id = |now| DeliveryId::draw(1, now, &mut SeededChance(9)).as_bytes().to_vec();
        assert!(id(1_000_000) < id(1_000_001));
    }
}
