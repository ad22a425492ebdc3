//! Small parts of a start: which addresses a socket takes.

use std::net::SocketAddr;

/// An IPv6 wildcard takes IPv4 too, unless the configuration has IPv4 on the same port.
pub(super) fn dual_stack(bind: SocketAddr, all: &[SocketAddr]) -> bool {
    bind.ip().is_unspecified() && !all.iter().any(|other| other.is_ipv4() && other.port() == bind.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_wildcard_takes_ipv4_unless_that_is_configured_too() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let wildcard = address("[::]:1883");
        assert!(dual_stack(wildcard, &[wildcard, address("0.0.0.0:8883")]));
        assert!(!dual_stack(wildcard, &[address("0.0.0.0:1883"), wildcard]));
        assert!(!dual_stack(address("[::1]:1883"), &[]));
    }
}
