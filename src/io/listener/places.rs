//! How many connections a listener has, in all and from each address.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// What is counted as one address. A home or an office has an IPv6 network of 64 bits to itself and any address in it,
/// so it counts as one; on a link without a router each machine counts for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source([u8; 16]);

impl Source {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_loopback() => Self(v6.octets()),
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).octets()),
        }
    }
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    max: Cell<usize>,
    /// Zero: no limit of its own, and nothing is kept.
    max_per_source: Cell<usize>,
    taken: Cell<usize>,
    /// Sources that have a place, so no more than there are places.
    by_source: RefCell<BTreeMap<Source, usize>>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Address,
}

impl Places {
    pub(super) fn new(max: usize, max_per_source: usize) -> Self {
        let (max, max_per_source) = (Cell::new(max), Cell::new(max_per_source));
        Self { max, max_per_source, taken: Cell::new(0), by_source: RefCell::default() }
    }

    /// From now on there are so many. Who has a place keeps it.
    pub(super) fn set_limits(&self, max: usize, max_per_source: usize) {
        self.max.set(max);
        self.max_per_source.set(max_per_source);
    }

    /// A place for a connection from this address; a Unix socket has none.
    pub(super) fn take(this: &Rc<Self>, address: Option<IpAddr>) -> Result<Place, Refusal> {
        if this.taken.get() >= this.max.get() {
            return Err(Refusal::Full);
        }
        let source = address.filter(|_| this.max_per_source.get() > 0).map(Source::of);
        if let Some(source) = source {
            let mut by_source = this.by_source.borrow_mut();
            let count = by_source.entry(source).or_default();
            if *count >= this.max_per_source.get() {
                return Err(Refusal::Address);
            }
            *count += 1;
        }
        this.taken.set(this.taken.get() + 1);
        Ok(Place { places: Rc::clone(this), source })
    }
}

/// One of the listener's connections; gives its place back when it ends.
#[derive(Debug)]
pub(super) struct Place {
    places: Rc<Places>,
    source: Option<Source>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.set(self.places.taken.get() - 1);
        let Some(source) = self.source else { return };
        let mut by_source = self.places.by_source.borrow_mut();
        if let Some(count) = by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Rc<Places>, address: &str) -> Result<Place, Refusal> {
        Places::take(places, Some(address.parse().unwrap()))
    }

    #[test]
    fn an_address_has_its_share_and_an_ipv6_network_counts_as_one() {
        let places = Rc::new(Places::new(100, 2));
        let mut taken = Vec::new();
        for [first, second, third, other] in [
            ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"],
            ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1:ffff::3", "2001:db8:0:2::1"],
            ["fe80::1", "fe80::1", "fe80::1", "fe80::2"],
            ["::1", "::1", "::1", "::2"],
        ] {
            taken.extend([take(&places, first).unwrap(), take(&places, second).unwrap()]);
            assert_eq!(take(&places, third).unwrap_err(), Refusal::Address, "{third}");
            taken.push(take(&places, other).unwrap());
        }
        // The first of them leaves.
        drop(taken.remove(0));
        taken.push(take(&places, "192.0.2.1").unwrap());
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Refusal::Address);
        drop(taken);
        assert!(places.by_source.borrow().is_empty(), "who has left is forgotten");
        assert_eq!(places.taken.get(), 0);
    }

    #[test]
    fn a_full_listener_refuses_everybody_and_forgets_who_it_refused() {
        let places = Rc::new(Places::new(2, 2));
        let (_first, second) = (take(&places, "192.0.2.1").unwrap(), Places::take(&places, None).unwrap());
        for i in 0..100 {
            assert_eq!(take(&places, &format!("198.51.100.{i}")).unwrap_err(), Refusal::Full);
        }
        assert_eq!(places.by_source.borrow().len(), 1);
        drop(second);
        let taken = take(&places, "192.0.2.1").unwrap();
        places.set_limits(1, 2);
        drop(taken);
        assert_eq!(take(&places, "192.0.2.1").unwrap_err(), Refusal::Full, "the other has the only place");
        places.set_limits(2, 2);
        take(&places, "192.0.2.1").unwrap();
    }

    #[test]
    fn without_a_limit_for_addresses_none_is_remembered() {
        let places = Rc::new(Places::new(10, 0));
        let _taken: Vec<_> = (0..10).map(|_| take(&places, "192.0.2.1").unwrap()).collect();
        assert!(places.by_source.borrow().is_empty());
        assert_eq!(take(&places, "192.0.2.2").unwrap_err(), Refusal::Full);
    }
}
