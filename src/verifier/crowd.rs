//! Who asked how much of late: counts in this node's memory, for the ladder and the limits on
//! challenges. What is exempt (by default the machine itself and private networks, where proxies
//! and load tests live) is not counted at all.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::clock::Millis;
use crate::domain::minted::Network;
use crate::domain::policy::Audio;
use crate::domain::risk::{Counts, Hint, Reason, Step, step};
use crate::domain::tally::Tally;

/// Counts of addresses and their networks.
#[derive(Default)]
pub(super) struct Crowd {
    exempt: Vec<IpNet>,
    names: RandomState,
    tallies: Mutex<Tallies>,
}

#[derive(Default)]
struct Tallies {
    wrong: Tally,
    asked: Tally,
    prefix: Tally,
    clips: Tally,
    heard: Tally,
}

/// An address that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Of the address: IPv4 /32, IPv6 /64.
    address: u64,
    /// Of its network.
    prefix: u64,
}

impl Crowd {
    pub(super) fn new(exempt: Vec<IpNet>) -> Self {
        Self { exempt, ..Self::default() }
    }

    /// The names of an address, if it counts.
    pub(super) fn counted(&self, address: Option<IpAddr>) -> Option<Counted> {
        let address = address.filter(|it| !self.exempt.iter().any(|net| net.contains(it)))?;
        let own = match address {
            IpAddr::V4(v4) => self.names.hash_one(v4.octets()),
            IpAddr::V6(v6) => self.names.hash_one(&v6.octets()[..8]),
        };
        Some(Counted { address: own, prefix: self.names.hash_one(network(address)) })
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        // Counts hold after any panic: there is nothing half-done in them.
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step for who asks for a challenge, or for a start that needs none; counts it, unless
    /// it is refused: then until when.
    pub(super) fn ask(
        &self,
        counted: Option<Counted>,
        limits: &Counts,
        hint: Hint,
        now: Millis,
    ) -> (Step, Reason, Millis) {
        let Some(Counted { address, prefix }) = counted else {
            let (step, reason) = step(limits, &Counts::default(), hint);
            return (step, reason, now);
        };
        let mut tallies = self.tallies();
        let seen = Counts {
            wrong: tallies.wrong.count(address, now),
            asked: tallies.asked.count(address, now),
            prefix: tallies.prefix.count(prefix, now),
        };
        let (step, reason) = step(limits, &seen, hint);
        if step != Step::Refuse {
            tallies.asked.add(address, now);
            tallies.prefix.add(prefix, now);
            return (step, reason, now);
        }
        let free_at = [
            tallies.wrong.below_at(address, limits.wrong, now),
            tallies.asked.below_at(address, limits.asked, now),
            tallies.prefix.below_at(prefix, limits.prefix, now),
        ];
        (step, reason, free_at.into_iter().max().unwrap_or(now))
    }

    /// Counts an answer as wrong before it is judged, so that answers at once do not share one
    /// count; else until when no answer is judged.
    pub(super) fn guess(&self, counted: Counted, max: u32, now: Millis) -> Result<(), Millis> {
        let wrong = &mut self.tallies().wrong;
        if wrong.count(counted.address, now) >= max {
            return Err(wrong.below_at(counted.address, max, now));
        }
        wrong.add(counted.address, now);
        Ok(())
    }

    /// Counts a clip that an address fetches; else until when it gets none: because it fetched too
    /// many, or because no answer of it by ear would be taken.
    pub(super) fn listen(&self, counted: Counted, max: Audio, now: Millis) -> Result<(), Millis> {
        let Counted { address, .. } = counted;
        let Tallies { clips, heard, .. } = &mut *self.tallies();
        if heard.count(address, now) >= max.answers {
            return Err(heard.below_at(address, max.answers, now));
        }
        if clips.count(address, now) >= max.clips {
            return Err(clips.below_at(address, max.clips, now));
        }
        clips.add(address, now);
        Ok(())
    }

    /// Counts an answer by ear before it is judged, right or wrong; else until when none is.
    pub(super) fn hear(&self, counted: Counted, max: Audio, now: Millis) -> Result<(), Millis> {
        let heard = &mut self.tallies().heard;
        if heard.count(counted.address, now) >= max.answers {
            return Err(heard.below_at(counted.address, max.answers, now));
        }
        heard.add(counted.address, now);
        Ok(())
    }

    /// Takes back what [`guess`](Self::guess) counted: it was not wrong.
    pub(super) fn not_wrong(&self, counted: Counted, now: Millis) {
        self.tallies().wrong.take_back(counted.address, now);
    }
}

/// The network of an address that challenges are bound to.
pub(super) fn network(address: IpAddr) -> Network {
    let mut network = Network::default();
    match address {
        IpAddr::V4(v4) => {
            network[0] = 4;
            network[1..4].copy_from_slice(&v4.octets()[..3]);
        }
        IpAddr::V6(v6) => {
            network[0] = 6;
            network[1..7].copy_from_slice(&v6.octets()[..6]);
        }
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_735_749_045_000;
    const LIMITS: Counts = Counts { wrong: 8, asked: 80, prefix: 160 };

    fn ask(crowd: &Crowd, address: &str) -> Step {
        let counted = crowd.counted(Some(address.parse().unwrap()));
        crowd.ask(counted, &LIMITS, Hint::Low, NOW).0
    }

    #[test]
    fn what_is_exempt_is_not_counted_and_others_are_refused_at_their_limit() {
        let exempt = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap());
        let crowd = Crowd::new(exempt.to_vec());
        for _ in 0..10_000 {
            assert_eq!(ask(&crowd, "127.0.0.1"), Step::Allow);
            assert_eq!(ask(&crowd, "::1"), Step::Allow);
        }
        let asked = (0..200).filter(|_| ask(&crowd, "203.0.113.7") != Step::Refuse).count();
        assert_eq!(asked, 80);
        let counted = crowd.counted(Some("203.0.113.7".parse().unwrap()));
        let (_, reason, free_at) = crowd.ask(counted, &LIMITS, Hint::Low, NOW);
        assert_eq!(reason, Reason::AddressVolume);
        assert!(free_at > NOW);
        let (later, ..) = crowd.ask(counted, &LIMITS, Hint::Low, free_at);
        assert_ne!(later, Step::Refuse);
    }

    #[test]
    fn an_address_is_a_v4_one_or_a_64_and_its_network_counts_for_all_in_it() {
        let crowd = Crowd::new(vec![]);
        let of = |text: &str| crowd.counted(Some(text.parse().unwrap())).unwrap();
        assert_eq!(of("2001:db8:1:2::1").address, of("2001:db8:1:2:ffff::9").address);
        assert_ne!(of("2001:db8:1:2::1").address, of("2001:db8:1:3::1").address);
        assert_eq!(of("2001:db8:1:2::1").prefix, of("2001:db8:1:3::1").prefix);
        assert_eq!(of("203.0.113.7").prefix, of("203.0.113.8").prefix);
        assert_ne!(of("203.0.113.7").prefix, of("203.0.114.7").prefix);
        for host in 0..16 {
            for _ in 0..10 {
                ask(&crowd, &format!("203.0.113.{host}"));
            }
        }
        assert_eq!(ask(&crowd, "203.0.113.99"), Step::Refuse, "one that never asked");
        assert_eq!(ask(&crowd, "203.0.114.99"), Step::Allow);
    }

    #[test]
    fn answers_at_once_do_not_share_a_count() {
        let crowd = Crowd::new(vec![]);
        let counted = crowd.counted(Some("203.0.113.7".parse().unwrap())).unwrap();
        for _ in 0..8 {
            assert_eq!(crowd.guess(counted, 8, NOW), Ok(()));
        }
        assert!(crowd.guess(counted, 8, NOW).is_err_and(|free_at| free_at > NOW));
        crowd.not_wrong(counted, NOW);
        assert_eq!(crowd.guess(counted, 8, NOW), Ok(()));
    }
}
