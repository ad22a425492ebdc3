//! Numbers that travel where names would be slow. A number is never given to something else while the process lives,
//! so what still comes for what a reload took away is nobody's.

use crate::config::{Bind, Config, Listener, Protocol, Upstream};

/// A listener. At start, its position in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// A radio link (UDP socket or serial port). At start, its position in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u16);

/// An upstream. At start, its position in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId(pub u16);

/// The numbers of all that a configuration has, each list in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids {
    /// By position in [`Config::listener`].
    pub listener: Vec<ListenerId>,
    /// By position in [`Config::link`].
    pub link: Vec<LinkId>,
    /// By position in [`Config::upstream`].
    pub upstream: Vec<UpstreamId>,
    /// How many of each were given out.
    used: [u16; 3],
}

impl Ids {
    /// The numbers at start: positions.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::default().after(&Config::default(), config).unwrap_or_default()
    }

    /// The numbers after a reload. What goes on keeps its own: links and upstreams of the same name, and a listener of
    /// the same name if those who use it find it as they did.
    ///
    /// `None` when numbers have run out, after some ten thousand changes.
    #[must_use]
    pub fn after(&self, running: &Config, new: &Config) -> Option<Self> {
        let [mut listeners, mut links, mut upstreams] = self.used;
        let listener =
            number(&running.listener, &self.listener, &new.listener, &mut listeners, ListenerId, |a, b| {
                a.name == b.name && address(a) == address(b)
            });
        let link = number(&running.link, &self.link, &new.link, &mut links, LinkId, |a, b| a.name == b.name);
        let by_name = |a: &Upstream, b: &Upstream| a.name == b.name;
        let upstream =
            number(&running.upstream, &self.upstream, &new.upstream, &mut upstreams, UpstreamId, by_name);
        Some(Self { listener: listener?, link: link?, upstream: upstream?, used: [listeners, links, upstreams] })
    }
}

fn number<T, I: Copy>(
    running: &[T],
    known: &[I],
    new: &[T],
    used: &mut u16,
    id: impl Fn(u16) -> I,
    goes_on: impl Fn(&T, &T) -> bool,
) -> Option<Vec<I>> {
    let known = |item: &T| running.iter().zip(known).find(|(old, _)| goes_on(old, item)).map(|(_, id)| *id);
    let mut give = |item: &T| match known(item) {
        Some(id) => Some(id),
        None => {
            let next = *used;
            *used = used.checked_add(1)?;
            Some(id(next))
        }
    };
    new.iter().map(&mut give).collect()
}

/// What clients must know of a listener to reach it.
fn address(listener: &Listener) -> (&Bind, Protocol, &str, bool) {
    (&listener.bind, listener.protocol, &listener.websocket_path, listener.tls.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    const A: &str = "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:1\"\n";
    const B: &str = "[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:2\"\n";

    #[test]
    fn what_goes_on_keeps_its_number_and_none_is_given_twice() {
        let first = config(&format!("{A}{B}"));
        let ids = Ids::new(&first);
        assert_eq!(ids.listener, [ListenerId(0), ListenerId(1)]);
        // In another order, with other limits.
        let second = config(&format!("{B}max_connections = 7\n{A}"));
        let ids = ids.after(&first, &second).unwrap();
        assert_eq!(ids.listener, [ListenerId(1), ListenerId(0)]);
        // Elsewhere it is another one; gone and back too.
        let third = config(&format!("{}{}", A.replace(":1", ":3"), ""));
        let ids = ids.after(&second, &third).unwrap();
        assert_eq!(ids.listener, [ListenerId(2)]);
        let ids = ids.after(&third, &first).unwrap();
        assert_eq!(ids.listener, [ListenerId(3), ListenerId(4)]);
    }

    #[test]
    fn numbers_can_run_out() {
        let mut running = config(A);
        let mut ids = Ids::new(&running);
        for port in 2..=u16::MAX {
            let next = config(&A.replace("127.0.0.1:1", &format!("127.0.0.9:{port}")));
            match ids.after(&running, &next) {
                Some(after) => (ids, running) = (after, next),
                None => return assert_eq!(ids.listener, [ListenerId(u16::MAX - 1)]),
            }
        }
        assert_eq!(ids.listener, [ListenerId(u16::MAX - 1)], "and the next is refused");
    }
}
