//! Where records live, resolved.

use std::path::PathBuf;

use super::{Check, typed};
use crate::domain::id::PARTITIONS;
use crate::domain::policy::Policy;
use crate::store::redis::{self, Credentials, Place};
use crate::verifier::records;

/// Where records live.
#[derive(Clone)]
pub enum StoreConfig {
    /// In one file.
    Embedded(PathBuf),
    /// In Redis or Valkey: as it is told, and what the store goes by.
    Redis(String, Box<redis::Settings>),
}

impl std::fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "{}", path.display()),
            Self::Redis(url, settings) => write!(f, "{url} (keys begin with {})", settings.prefix),
        }
    }
}

pub(super) fn resolve(
    store: &typed::Store,
    policy: &Policy,
    check: &mut Check<'_>,
) -> Option<StoreConfig> {
    check(!store.path.is_empty(), "store.path: name a file".to_owned());
    match store.kind.as_str() {
        "embedded" => Some(StoreConfig::Embedded(PathBuf::from(&store.path))),
        "redis" => redis(store, policy, check),
        other => {
            let told = format!("store.kind: \"{other}\" is neither \"embedded\" nor \"redis\"");
            check(false, told);
            None
        }
    }
}

fn redis(store: &typed::Store, policy: &Policy, check: &mut Check<'_>) -> Option<StoreConfig> {
    let place = match store.url.parse::<Place>() {
        Ok(place) => place,
        Err(error) => {
            check(false, format!("store.url: {error}"));
            return None;
        }
    };
    check(
        store.database == 0 || !place.is_cluster(),
        "store.database: a cluster has only the database 0; tell applications apart by \
         `store.prefix`"
            .to_owned(),
    );
    check(
        !store.prefix.is_empty() && !store.prefix.contains(['{', '}']),
        "store.prefix: some text without { and }, which would move keys to other slots".to_owned(),
    );
    let authority = match store.authority_file.as_str() {
        "" => None,
        file => {
            check(place.is_tls(), "store.authority_file: only for rediss://".to_owned());
            let read = std::fs::read(file);
            read.map_err(|error| check(false, format!("store.authority_file: {file}: {error}")))
                .ok()
        }
    };
    let replicas = store.replicas.unwrap_or(u32::from(place.has_replicas()));
    check(replicas <= 10, "store.replicas: 0 to 10".to_owned());
    let credentials = Credentials {
        username: store.username.clone(),
        password: store.password.clone(),
        database: store.database,
        authority,
    };
    let settings = redis::Settings {
        place,
        credentials,
        prefix: store.prefix.clone(),
        partitions: PARTITIONS,
        bound: if store.bind_codes { vec![records::VERIFICATION] } else { Vec::new() },
        replicas,
        hold: if store.hold_after_failover { policy.phone_gap } else { 0 },
    };
    Some(StoreConfig::Redis(store.url.clone(), Box::new(settings)))
}
