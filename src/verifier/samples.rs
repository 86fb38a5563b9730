//! What released forms stored, as it lies in `tests/samples`: today's code reads it, loses nothing
//! of it, and does not mind what a newer release added. A file is never changed; a form that
//! changes gets a new one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::records::{Address, Remembered};
use crate::domain::cap;
use crate::domain::challenge::Spent;
use crate::domain::delivery::Delivery;
use crate::domain::sends::Sends;
use crate::domain::standing::Standing;
use crate::domain::verification::{LiveCode, Verification};

/// Every released form of records: the first has a sample of every kind, others of what changed.
const RELEASED: [&str; 2] = [
    include_str!("../../tests/samples/0.1.json"),
    include_str!("../../tests/samples/0.1-caps.json"),
];

/// What today's code makes of a value.
fn again<T: Serialize + DeserializeOwned>(value: &Value) -> Value {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| {
        panic!("not readable any more: {error}: {value}");
    });
    serde_json::to_value(read).unwrap()
}

/// The same by the kind of the record: these numbers are part of what is stored.
fn again_by_kind(kind: u64, value: &Value) -> Value {
    match kind {
        1 => again::<Spent>(value),
        2 => again::<Address>(value),
        3 => again::<Sends>(value),
        4 => again::<Standing>(value),
        5 => again::<Verification>(value),
        6 => again::<Delivery>(value),
        7 => again::<Remembered>(value),
        8 => again::<LiveCode>(value),
        16 => again::<cap::Spent>(value),
        254 => again::<String>(value),
        other => panic!("kind {other} is not known any more"),
    }
}

/// Puts a member that nobody knows into every object, but for those that only name a variant.
fn with_strangers(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let variant = members.len() == 1 && members.values().all(Value::is_object);
            let inner = members.iter().map(|(name, value)| (name.clone(), with_strangers(value)));
            let mut members: serde_json::Map<_, _> = inner.collect();
            if !variant {
                members.insert("of_a_newer_release".to_owned(), json!({"x": [1, null]}));
            }
            Value::Object(members)
        }
        Value::Array(items) => items.iter().map(with_strangers).collect(),
        plain => plain.clone(),
    }
}

#[test]
fn what_released_forms_stored_is_read_whole() {
    let mut kinds_of = Vec::new();
    for file in RELEASED {
        let samples: Vec<Value> = serde_json::from_str(file).unwrap();
        let mut kinds: Vec<_> = samples.iter().map(|it| it["kind"].as_u64().unwrap()).collect();
        for sample in &samples {
            let (kind, value) = (sample["kind"].as_u64().unwrap(), &sample["value"]);
            assert_eq!(again_by_kind(kind, value), *value, "kind {kind} lost something");
            let newer = with_strangers(value);
            assert_eq!(again_by_kind(kind, &newer), *value, "kind {kind} minds something new");
        }
        kinds.dedup();
        kinds_of.push(kinds);
    }
    assert_eq!(kinds_of[0], [1, 2, 3, 4, 5, 6, 7, 8, 254], "a sample of every kind");
    assert_eq!(kinds_of[1], [4, 6, 16], "what caps and prices added");
}
