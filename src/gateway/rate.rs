//! No node talks for all: a bucket of tokens for each, one token for each message.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::gateway::peers::{Peer, PeerRef};
use crate::time::{Duration, Instant};

/// Tokens are counted in millionths, which is what one a second makes in a microsecond.
const TOKEN: u64 = 1_000_000;
/// Time between two looks for buckets that are full again.
const SWEEP: Duration = Duration::from_secs(1);
/// Buckets for each client there may be.
const PER_CLIENT: usize = 2;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: u64,
    at: Instant,
}

impl Bucket {
    fn refill(&mut self, now: Instant, rate: u64, most: u64) {
        let passed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        self.tokens = self.tokens.saturating_add(passed.saturating_mul(rate)).min(most);
        self.at = now;
    }

    fn take(&mut self, now: Instant, rate: u64, most: u64) -> bool {
        self.refill(now, rate, most);
        let taken = self.tokens >= TOKEN;
        if taken {
            self.tokens -= TOKEN;
        }
        taken
    }
}

/// The limit and all buckets that are not full.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: u64,
    most: u64,
    max_buckets: usize,
    buckets: HashMap<Peer, Bucket, FixedState>,
    /// Of all for whom there is no bucket of their own.
    rest: Bucket,
    /// Not looked through for full ones before.
    sweep_at: Instant,
}

impl Rate {
    /// A rate of 0 is no limit.
    pub(super) fn new(per_second: u32, burst: u32, max_clients: usize) -> Self {
        let most = u64::from(burst) * TOKEN;
        Self {
            per_second: u64::from(per_second),
            most,
            max_buckets: max_clients.saturating_mul(PER_CLIENT),
            buckets: HashMap::default(),
            rest: Bucket { tokens: most, at: Instant::ZERO },
            sweep_at: Instant::ZERO,
        }
    }

    /// Whether one more message of this node is taken.
    pub(super) fn admits(&mut self, now: Instant, peer: PeerRef<'_>) -> bool {
        let (rate, most) = (self.per_second, self.most);
        if rate == 0 {
            return true;
        }
        if let Some(bucket) = self.buckets.get_mut(&peer) {
            return bucket.take(now, rate, most);
        }
        if self.buckets.len() >= self.max_buckets && now >= self.sweep_at {
            // Who was silent long enough to have all of it again is as good as new.
            self.buckets.retain(|_, bucket| {
                bucket.refill(now, rate, most);
                bucket.tokens < most
            });
            self.sweep_at = now + SWEEP;
        }
        if self.buckets.len() >= self.max_buckets {
            return self.rest.take(now, rate, most);
        }
        let mut bucket = Bucket { tokens: most, at: now };
        let taken = bucket.take(now, rate, most);
        self.buckets.insert(peer.to_owned(), bucket);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LinkId;

    fn peer(port: u16) -> Peer {
        Peer { link: LinkId(0), addr: Some(([127, 0, 0, 1], port).into()), node: None }
    }

    fn admitted(rate: &mut Rate, millis: u64, port: u16, count: usize) -> usize {
        let now = Instant::from_micros(millis * 1000);
        (0..count).filter(|_| rate.admits(now, peer(port).as_ref())).count()
    }

    #[test]
    fn a_node_has_its_burst_and_then_its_rate_whatever_others_send() {
        let mut rate = Rate::new(10, 5, 8);
        assert_eq!(admitted(&mut rate, 1000, 1, 100), 5);
        assert_eq!(admitted(&mut rate, 1000, 2, 3), 3);
        assert_eq!(admitted(&mut rate, 1099, 1, 100), 0);
        assert_eq!(admitted(&mut rate, 1100, 1, 100), 1);
        assert_eq!(admitted(&mut rate, 1350, 1, 100), 2);
        assert_eq!(admitted(&mut rate, 60_000, 1, 100), 5);
        let mut free = Rate::new(0, 1, 8);
        assert_eq!(admitted(&mut free, 0, 1, 1000), 1000);
    }

    #[test]
    fn buckets_are_bounded_and_those_without_one_share_one() {
        let mut rate = Rate::new(1, 2, 4);
        let took: usize = (0..100).map(|port| admitted(&mut rate, 1000, port, 1)).sum();
        assert_eq!((took, rate.buckets.len()), (8 + 2, 8));
        // Silence makes room.
        assert_eq!(admitted(&mut rate, 10_000, 200, 5), 2);
        assert_eq!(rate.buckets.len(), 1);
    }
}
