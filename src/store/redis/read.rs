//! Reading records: in one call where one server has them all, else a call for each partition.

use std::collections::BTreeSet;

use redis::{RedisWrite, Value, cmd};

use super::commit::strange;
use super::fleet::Fleet;
use super::layout;
use super::link::Link;
use crate::clock::Clock;
use crate::store::{Key, Record, StoreError};

/// A record as it was found, or why it cannot be read, which concerns nobody but those who want it.
pub(super) type Found = Result<Option<Record>, StoreError>;

/// Reads records, in the order of the keys; those of one partition at one moment.
pub(super) async fn together(
    fleet: &Fleet,
    clock: &Clock,
    keys: &[Key],
) -> Result<Vec<Found>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    if !fleet.settings.place.is_cluster() {
        return at_once(fleet, clock, &keys.iter().collect::<Vec<_>>()).await;
    }
    let mut records = vec![Ok(None); keys.len()];
    let partitions: BTreeSet<u16> = keys.iter().map(|key| key.partition).collect();
    for partition in partitions {
        let here = || keys.iter().enumerate().filter(|(_, key)| key.partition == partition);
        let of: Vec<&Key> = here().map(|(_, key)| key).collect();
        let read = at_once(fleet, clock, &of).await?;
        for ((at, _), record) in here().zip(read) {
            records[at] = record;
        }
    }
    Ok(records)
}

/// Reads records of one server at one moment.
async fn at_once(fleet: &Fleet, clock: &Clock, keys: &[&Key]) -> Result<Vec<Found>, StoreError> {
    let read = |_: &Link, _| {
        let (mut read, mut buffer) = (cmd("MGET"), Vec::new());
        for key in keys {
            fleet.layout.write_record(key, &mut buffer);
            read.write_arg(&buffer);
        }
        read
    };
    let partition = keys.first().map_or(0, |key| key.partition);
    let answer = fleet.call(partition, true, read).await?;
    let now = clock.now();
    let Value::Array(values) = answer.value else { return Err(strange()) };
    let record = |value| match value {
        Value::Nil => Ok(None),
        Value::BulkString(stored) => layout::living(&stored, now, answer.link.history()),
        _ => Err(strange()),
    };
    let records: Vec<_> = values.into_iter().map(record).collect();
    if records.len() == keys.len() { Ok(records) } else { Err(strange()) }
}
