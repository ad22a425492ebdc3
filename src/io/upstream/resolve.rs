//! Names to addresses, afresh for each attempt, never blocking the engine.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tokio::task::{JoinHandle, spawn_blocking};

type Lookup = JoinHandle<io::Result<Vec<SocketAddr>>>;

/// Asks the system's resolver on a thread of its own. A resolver that does not answer keeps one thread for each
/// name at most: later attempts wait for the lookup that is under way.
#[derive(Default)]
pub(super) struct Resolver {
    pending: RefCell<BTreeMap<(String, u16), Lookup>>,
}

impl Resolver {
    /// The addresses of a host, in the order to try them. May take as long as the system's resolver likes, and may
    /// be dropped meanwhile.
    ///
    /// # Errors
    /// If the name has no address or nobody knows.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let key = (host.to_owned(), port);
        let mut lookup = Pending { resolver: self, lookup: self.pending.borrow_mut().remove(&key), key };
        let started = lookup.lookup.get_or_insert_with(|| {
            let key = lookup.key.clone();
            spawn_blocking(move || (key.0.as_str(), key.1).to_socket_addrs().map(Iterator::collect))
        });
        let found = started.await;
        lookup.lookup = None;
        let addresses = found.map_err(io::Error::other)??;
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }
}

/// A lookup that goes back to the resolver when its attempt is given up.
struct Pending<'a> {
    resolver: &'a Resolver,
    key: (String, u16),
    lookup: Option<Lookup>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(lookup) = self.lookup.take() {
            self.resolver.pending.borrow_mut().insert(self.key.clone(), lookup);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[tokio::test]
    async fn literal_addresses_ask_nobody_and_names_ask_the_system() {
        let resolver = Resolver::default();
        let v6 = resolver.resolve("[::1]", 1883).await.unwrap();
        assert_eq!(v6, ["[::1]:1883".parse().unwrap()]);
        let local = resolver.resolve("localhost", 1883).await.unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 1883));
        assert!(resolver.pending.borrow().is_empty());
    }

    #[tokio::test]
    async fn an_attempt_that_is_given_up_leaves_its_lookup_to_the_next() {
        let resolver = Resolver::default();
        let key = ("slow.invalid".to_owned(), 1);
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let lookup = spawn_blocking(move || {
            answered.recv().ok();
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
        });
        resolver.pending.borrow_mut().insert(key.clone(), lookup);
        let given_up = tokio::time::timeout(Duration::from_millis(10), resolver.resolve("slow.invalid", 1)).await;
        assert!(given_up.is_err());
        assert_eq!(resolver.pending.borrow().len(), 1);
        answer.send(()).unwrap();
        let found = resolver.resolve("slow.invalid", 1).await.unwrap();
        assert_eq!(found, [SocketAddr::from(([127, 0, 0, 1], 1))]);
        assert!(resolver.pending.borrow().is_empty());
    }
}
