//! How records lie in Redis: the names of keys, and what stands before a value.
//!
//! All keys of a partition have the partition's hash tag, so a cluster keeps them in one slot:
//! `prefix{517}:5:name` a record of kind 5, `prefix{517}:due` the partition's queue.
//!
//! A record is a string: a head of text, then the value. The head is read by `commit.lua`, too:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | the form, `1` |
//! | 16 | the revision, hexadecimal |
//! | 14 | when it vanishes, in milliseconds of the timeline |
//! | 1 | `d` if it is in the queue, else `-` |
//! | 1 | `b` if it is bound to a history, else `-` |
//! | 40 | that history, if it is bound |

use std::io::Write;

use crate::clock::Millis;
use crate::store::{Key, Record, StoreError};

/// The form of records. A release that changes it reads the old one, too.
const FORM: u8 = b'1';
const PLAIN: usize = 33;
const BOUND: usize = PLAIN + 40;
/// The latest instant that fits into a head.
const LATEST: Millis = 99_999_999_999_999;
/// Slots of a cluster.
const SLOTS: u16 = 16_384;

/// The names of keys under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) prefix: String,
}

impl Layout {
    fn tag(&self, partition: u16) -> String {
        format!("{}{{{partition}}}:", self.prefix)
    }

    /// The name of a record, into a buffer that is used again and again.
    pub(super) fn write_record(&self, key: &Key, buffer: &mut Vec<u8>) {
        buffer.clear();
        write!(buffer, "{}{{{}}}:{}:", self.prefix, key.partition, key.kind)
            .expect("a buffer in memory takes everything");
        buffer.extend_from_slice(&key.name);
    }

    pub(super) fn queue(&self, partition: u16) -> String {
        format!("{}due", self.tag(partition))
    }

    pub(super) fn history(&self, partition: u16) -> String {
        format!("{}history", self.tag(partition))
    }

    pub(super) fn wait(&self, partition: u16) -> String {
        format!("{}wait", self.tag(partition))
    }
}

/// The slot of a cluster that a partition lies in: CRC16 (XMODEM) of its hash tag.
pub(super) fn slot(partition: u16) -> u16 {
    let crc = partition.to_string().bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// What stands before a value.
pub(super) struct Head<'a> {
    pub(super) revision: u64,
    pub(super) expires_at: Millis,
    pub(super) due: bool,
    pub(super) history: Option<&'a str>,
}

impl Head<'_> {
    /// The record with this head.
    pub(super) fn before(&self, value: &[u8]) -> Vec<u8> {
        let mut record = Vec::with_capacity(BOUND + value.len());
        let due = if self.due { 'd' } else { '-' };
        let (mark, history) = self.history.map_or(("-", ""), |history| ("b", history));
        let (revision, expires_at) = (self.revision, self.expires_at.clamp(0, LATEST));
        write!(record, "1{revision:016x}{expires_at:014}{due}{mark}{history}")
            .expect("a buffer in memory takes everything");
        record.extend_from_slice(value);
        record
    }
}

/// A record as it is found, if it is there: not past its time, not of another history.
pub(super) fn living(
    stored: &[u8],
    now: Millis,
    history: &str,
) -> Result<Option<Record>, StoreError> {
    let unreadable = || StoreError::Unreadable("a record of a form that is not known".to_owned());
    if stored.first() != Some(&FORM) {
        return Err(unreadable());
    }
    let text = |from: usize, to: usize| stored.get(from..to).map(String::from_utf8_lossy);
    let revision = text(1, 17).and_then(|text| u64::from_str_radix(&text, 16).ok());
    let expires_at = text(17, 31).and_then(|text| text.parse::<Millis>().ok());
    let (revision, expires_at) =
        (revision.ok_or_else(unreadable)?, expires_at.ok_or_else(unreadable)?);
    let bound = stored.get(32) == Some(&b'b');
    let foreign = bound && text(PLAIN, BOUND).is_none_or(|bound_to| bound_to != history);
    if expires_at <= now || foreign {
        return Ok(None);
    }
    let value = stored.get(if bound { BOUND } else { PLAIN }..).ok_or_else(unreadable)?.to_vec();
    Ok(Some(Record { revision, value }))
}

/// What a queue holds: a key, and when its record vanishes.
pub(super) fn from_queue(partition: u16, member: &[u8]) -> Option<(Millis, Key)> {
    let (expires_at, name) = member.split_at_checked(14)?;
    let expires_at = std::str::from_utf8(expires_at).ok()?.parse().ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let kind = std::str::from_utf8(&name[..colon]).ok()?.parse().ok()?;
    Some((expires_at, Key::new(partition, kind, &name[colon + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn records_come_back_from_their_form() {
        for history in [None, Some(HISTORY)] {
            let head = Head { revision: u64::MAX - 1, expires_at: 1000, due: true, history };
            let stored = head.before(&[0, 255, b'x']);
            let read = living(&stored, 999, HISTORY).unwrap().unwrap();
            assert_eq!((read.revision, read.value), (u64::MAX - 1, vec![0, 255, b'x']));
            assert_eq!(living(&stored, 1000, HISTORY).unwrap(), None, "past its time");
            let elsewhere = living(&stored, 999, &HISTORY.replace('0', "f")).unwrap();
            assert_eq!(elsewhere.is_none(), history.is_some(), "only what is bound is bound");
        }
        assert!(living(b"2what", 0, "").is_err());
        assert!(living(b"1short", 0, "").is_err());
    }

    /// What this release writes, byte for byte: the next one must read it.
    #[test]
    fn the_form_of_a_record_does_not_change_by_itself() {
        let head =
            Head { revision: 0xabc, expires_at: 1_735_749_045_000, due: true, history: None };
        assert_eq!(head.before(b"{}"), b"10000000000000abc01735749045000d-{}");
        let head = Head { due: false, history: Some(HISTORY), ..head };
        let bound = format!("10000000000000abc01735749045000-b{HISTORY}{{}}");
        assert_eq!(head.before(b"{}"), bound.as_bytes());
    }

    /// What stands before the values of released forms: the file is never changed.
    #[test]
    fn heads_of_released_forms_are_read() {
        let samples = include_str!("../../../tests/samples/0.1.json");
        let samples: Vec<serde_json::Value> = serde_json::from_str(samples).unwrap();
        for sample in samples {
            let head = sample["head"].as_str().unwrap();
            let (history, value) = (head.get(33..).unwrap(), sample["value"].to_string());
            let stored = [head.as_bytes(), value.as_bytes()].concat();
            let read = living(&stored, 1_795_551_040_000, history).unwrap().unwrap();
            assert_eq!(read.value, value.as_bytes());
            assert_eq!(format!("{:016x}", read.revision), head[1..17]);
        }
    }

    #[test]
    fn keys_come_back_from_the_queue() {
        let layout = Layout { prefix: "cs:".to_owned() };
        for name in [&b""[..], b":", b"\0{x}\xff", b"name"] {
            let key = Key::new(517, 6, name);
            let mut member = b"01735749045000".to_vec();
            let mut record = Vec::new();
            layout.write_record(&key, &mut record);
            member.extend_from_slice(&record[layout.queue(517).len() - "due".len()..]);
            assert_eq!(from_queue(517, &member), Some((1_735_749_045_000, key)));
        }
        assert_eq!(from_queue(517, b"short"), None);
    }

    #[test]
    fn slots_are_those_of_the_cluster_and_evenly_used() {
        // From `CLUSTER KEYSLOT` of Redis 7.
        assert_eq!([slot(517), slot(0), slot(1023)], [7749, 13_907, 14_911]);
        for shards in [3_u16, 6, 16] {
            let mut load = vec![0_u32; usize::from(shards)];
            for partition in 0..1024 {
                let shard = u32::from(slot(partition)) * u32::from(shards) / u32::from(SLOTS);
                load[usize::try_from(shard).unwrap()] += 1;
            }
            let even = 1024 / u32::from(shards);
            let worst = load.iter().max().copied().unwrap();
            eprintln!("{shards} shards: {load:?} of 1024 partitions");
            assert!(worst * 100 <= even * 135, "{shards}: {load:?}");
        }
    }
}
