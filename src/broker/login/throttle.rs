//! How often one address may fail to log in. What it knows of an address it forgets with time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::time::{Duration, Instant};

/// Whose failures are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// On this box, without an address.
    Local,
    V4([u8; 4]),
    /// The first 64 bits: whoever has one address has them all.
    V6([u8; 8]),
}

impl From<Option<SocketAddr>> for Origin {
    fn from(peer: Option<SocketAddr>) -> Self {
        match peer.map(|peer| peer.ip().to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V4(ip)) => Self::V4(ip.octets()),
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this box"),
            Self::V4(octets) => IpAddr::from(*octets).fmt(f),
            Self::V6(prefix) => {
                let mut octets = [0; 16];
                octets[..8].copy_from_slice(prefix);
                write!(f, "{}/64", IpAddr::from(octets))
            }
        }
    }
}

/// `max_failures` within `window` block an address for `block`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub max_failures: u32,
    pub window: Duration,
    pub block: Duration,
    pub max_addresses: usize,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    failures: u32,
    is_blocked: bool,
    /// When nothing of it matters any more.
    ends_at: Instant,
}

/// The addresses that failed of late.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: Limits,
    records: BTreeMap<Origin, Record>,
    by_end: BTreeSet<(Instant, Origin)>,
    /// Addresses forgotten before their time, because the table was full.
    pub forgotten: u64,
}

impl Throttle {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, records: BTreeMap::new(), by_end: BTreeSet::new(), forgotten: 0 }
    }

    /// From now on these limits hold; who is blocked stays so for its time.
    pub(super) fn configure(&mut self, limits: Limits) {
        self.limits = limits;
        while self.records.len() > limits.max_addresses
            && let Some(&(_, next)) = self.by_end.first()
        {
            self.remove(next);
            self.forgotten += 1;
        }
    }

    /// Whether log-ins from there are refused now.
    pub(super) fn is_blocked(&self, now: Instant, origin: Origin) -> bool {
        self.records.get(&origin).is_some_and(|record| record.is_blocked && record.ends_at > now)
    }

    /// Counts a log-in that failed. True when it was the one too many.
    pub(super) fn add_failure(&mut self, now: Instant, origin: Origin) -> bool {
        while let Some(&(_, over)) = self.by_end.first().filter(|(ends_at, _)| *ends_at <= now) {
            self.remove(over);
        }
        let before = self.remove(origin);
        if before.is_none() && self.records.len() >= self.limits.max_addresses {
            // The one that would be forgotten next anyway.
            if let Some(&(_, next)) = self.by_end.first() {
                self.remove(next);
                self.forgotten += 1;
            }
        }
        let mut record =
            before.unwrap_or(Record { failures: 0, is_blocked: false, ends_at: now + self.limits.window });
        record.failures = record.failures.saturating_add(1);
        let begins = !record.is_blocked && record.failures >= self.limits.max_failures;
        if begins {
            record.is_blocked = true;
            record.ends_at = now + self.limits.block;
        }
        self.by_end.insert((record.ends_at, origin));
        self.records.insert(origin, record);
        begins
    }

    fn remove(&mut self, origin: Origin) -> Option<Record> {
        let record = self.records.remove(&origin)?;
        self.by_end.remove(&(record.ends_at, origin));
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_micros(secs * 1_000_000)
    }

    fn from(address: &str) -> Origin {
        Origin::from(Some(address.parse::<SocketAddr>().unwrap()))
    }

    fn throttle(max_addresses: usize) -> Throttle {
        let (window, block) = (Duration::from_secs(60), Duration::from_secs(300));
        Throttle::new(Limits { max_failures: 3, window, block, max_addresses })
    }

    #[test]
    fn too_many_failures_within_the_window_block_and_the_block_ends() {
        let mut throttle = throttle(10);
        let (bad, good) = (from("10.0.0.1:1"), from("10.0.0.2:1"));
        assert!(!throttle.add_failure(at(0), bad) && !throttle.add_failure(at(30), bad));
        assert!(!throttle.is_blocked(at(30), bad));
        assert!(throttle.add_failure(at(59), bad), "the third");
        assert!(!throttle.add_failure(at(60), bad), "told once");
        assert!(throttle.is_blocked(at(60), bad) && !throttle.is_blocked(at(60), good));
        assert!(throttle.is_blocked(at(358), bad) && !throttle.is_blocked(at(359), bad));
        assert!(!throttle.add_failure(at(400), bad), "a clean slate");
    }

    #[test]
    fn failures_that_lie_far_apart_do_not_add_up() {
        let mut throttle = throttle(10);
        for n in 0..20 {
            assert!(!throttle.add_failure(at(n * 31), from("10.0.0.1:1")), "{n}");
        }
    }

    #[test]
    fn an_ipv6_network_and_an_ipv4_address_in_ipv6_clothes_are_one_origin_each() {
        assert_eq!(from("[2001:db8:0:1::1]:5"), from("[2001:db8:0:1:ffff::9]:6"));
        assert_ne!(from("[2001:db8:0:1::1]:5"), from("[2001:db8:0:2::1]:5"));
        assert_eq!(from("[::ffff:10.0.0.1]:5"), from("10.0.0.1:77"));
        assert_eq!(from("[2001:db8:0:1::1]:5").to_string(), "2001:db8:0:1::/64");
        assert_eq!(from("10.0.0.1:5").to_string(), "10.0.0.1");
    }

    #[test]
    fn the_table_is_bounded_and_counts_what_it_forgets() {
        let mut throttle = throttle(2);
        for (n, address) in ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].into_iter().enumerate() {
            throttle.add_failure(at(n as u64), from(address));
        }
        assert_eq!((throttle.records.len(), throttle.by_end.len(), throttle.forgotten), (2, 2, 1));
        throttle.add_failure(at(100), from("10.0.0.4:1"));
        assert_eq!((throttle.records.len(), throttle.by_end.len(), throttle.forgotten), (1, 1, 1));
    }
}
