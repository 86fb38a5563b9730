//! What a server says about itself (`INFO`, `TIME`), and whether records may be trusted to it.

use crate::clock::{Millis, SECOND};

/// The oldest release that is taken: scripts that are refused as a whole came with it.
const VERSION_MIN: (u32, u32) = (7, 0);
/// How far the clocks of nodes and servers may be apart.
pub(super) const APART_MAX: Millis = 2 * SECOND;

/// What a server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vitals {
    pub(super) version: String,
    pub(super) policy: String,
    pub(super) loading: bool,
    pub(super) appends: bool,
    pub(super) master: bool,
    pub(super) replicas: u32,
    pub(super) history: String,
}

impl Vitals {
    /// Reads an answer to `INFO`.
    pub(super) fn parse(info: &str) -> Self {
        let value = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim()).to_owned()
        };
        Self {
            version: value("redis_version"),
            policy: value("maxmemory_policy"),
            loading: value("loading") == "1",
            appends: value("aof_enabled") == "1",
            master: value("role") == "master",
            replicas: value("connected_slaves").parse().unwrap_or(0),
            history: value("master_replid"),
        }
    }

    /// Whether memory that runs short would cost records: what to do about it, if so.
    pub(super) fn evicts(&self) -> Option<String> {
        (self.policy != "noeviction").then(|| {
            format!(
                "the eviction policy is {:?}: limits and used codes would be thrown away when \
                 memory runs short; redis-cli CONFIG SET maxmemory-policy noeviction, then CONFIG \
                 REWRITE",
                self.policy
            )
        })
    }

    /// Everything for which a start is refused, each with what mends it. `ahead` is how far the
    /// server's clock is ahead of ours.
    pub(super) fn faults(&self, replicas: u32, ahead: Millis) -> Vec<String> {
        let mut faults = Vec::new();
        if self.version_number().is_none_or(|version| version < VERSION_MIN) {
            let (major, minor) = VERSION_MIN;
            faults.push(format!(
                "version {:?} is too old: install Redis {major}.{minor} or newer, or Valkey",
                self.version
            ));
        }
        faults.extend(self.evicts());
        if !self.appends && self.replicas == 0 {
            faults.push(
                "it neither keeps an append-only file nor has a replica, so a restart would \
                 forget every limit and used code; redis-cli CONFIG SET appendonly yes, then \
                 CONFIG REWRITE"
                    .to_owned(),
            );
        }
        if self.replicas < replicas {
            faults.push(format!(
                "it has {} replicas, and `store.replicas` is {replicas}: no message would be sent; \
                 attach replicas (redis-cli REPLICAOF host port, at each), or lower store.replicas",
                self.replicas
            ));
        }
        if ahead.abs() > APART_MAX {
            faults.push(format!(
                "its clock and ours are {} ms apart, at most {APART_MAX} may be: set both by NTP \
                 (timedatectl set-ntp true)",
                ahead.abs()
            ));
        }
        faults
    }

    fn version_number(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\n\
        maxmemory_policy:noeviction\r\n# Persistence\r\nloading:0\r\naof_enabled:1\r\n\
        # Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        master_replid:0123456789abcdef0123456789abcdef01234567\r\n";

    #[test]
    fn a_server_that_may_be_trusted_has_no_faults() {
        let vitals = Vitals::parse(GOOD);
        assert_eq!(vitals.history.len(), 40);
        assert!(vitals.master && !vitals.loading && vitals.replicas == 2);
        assert_eq!(vitals.faults(2, -2000), [""; 0]);
    }

    #[test]
    fn each_fault_is_told_with_what_mends_it() {
        for (from, to, command) in [
            ("7.0.15", "6.2.14", "install Redis 7.0"),
            ("7.0.15", "", "install Redis 7.0"),
            ("noeviction", "allkeys-lru", "CONFIG SET maxmemory-policy noeviction"),
            ("connected_slaves:2", "connected_slaves:0", "REPLICAOF"),
        ] {
            let faults = Vitals::parse(&GOOD.replace(from, to)).faults(1, 0);
            assert!(faults.len() == 1 && faults[0].contains(command), "{faults:?}");
        }
        let alone = GOOD.replace("aof_enabled:1", "aof_enabled:0").replace("slaves:2", "slaves:0");
        let faults = Vitals::parse(&alone).faults(0, 0);
        assert!(faults.len() == 1 && faults[0].contains("CONFIG SET appendonly yes"), "{faults:?}");
        let faults = Vitals::parse(GOOD).faults(0, 2001);
        assert!(faults.len() == 1 && faults[0].contains("NTP"), "{faults:?}");
    }
}
