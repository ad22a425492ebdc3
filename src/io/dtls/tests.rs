//! Both ends in one process, without sockets: the other end is the same library, as a client.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use dimpl::{Config, Dtls, DtlsCertificate, Output, ProtocolVersion, PskResolver};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::association::offers;
use super::{Associations, DtlsIdentity, Event, crypto};
use crate::config::LinkDtls;
use crate::io::tls::{Reload, Validity};
use crate::metrics::DtlsFailures;
use crate::time::Duration;

/// The clock of this machine is right.
fn time() -> Validity {
    Validity::of(Path::new("/proc/self/exe"))
}

const SECOND: Duration = Duration::from_secs(1);

struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { dir: tempfile::tempdir().unwrap(), issuer };
        authority.put("ca.pem", authority.issuer.pem());
        authority
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate and its key, in files and for the library.
    fn issue(&self, name: &str) -> DtlsCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.put(&format!("{name}.pem"), certificate.pem());
        self.put(&format!("{name}.key"), key.serialize_pem());
        DtlsCertificate { certificate: certificate.der().to_vec(), private_key: key.serialize_der() }
    }

    fn settings(&self) -> LinkDtls {
        self.issue("gateway");
        let psk_file = self.put("psk", "node-7:000102030405060708090a0b0c0d0e0f\nnode-8:1111111111111111\n");
        LinkDtls {
            cert: Some(self.path("gateway.pem")),
            key: Some(self.path("gateway.key")),
            client_ca: Some(self.path("ca.pem")),
            psk_file: Some(psk_file),
            ..LinkDtls::default()
        }
    }
}

struct Key(Vec<u8>);

impl PskResolver for Key {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

/// The other end.
struct Node {
    address: SocketAddr,
    dtls: Dtls,
    sent: VecDeque<Vec<u8>>,
    heard: Vec<Vec<u8>>,
    connected: bool,
    closed: bool,
}

impl Node {
    fn new(port: u16, mut dtls: Dtls, now: Instant) -> Self {
        dtls.set_active(true);
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        let (sent, heard) = (VecDeque::new(), Vec::new());
        let mut node = Self { address, dtls, sent, heard, connected: false, closed: false };
        node.dtls.handle_timeout(now).unwrap();
        node.drain();
        node
    }

    fn with_psk(port: u16, identity: &str, key: &[u8], now: Instant) -> Self {
        let builder = Config::builder().with_crypto_provider(crypto::provider());
        let config = builder.with_psk_client(identity.as_bytes().to_vec(), Arc::new(Key(key.to_vec())));
        Self::new(port, Dtls::new_12_psk(Arc::new(config.build().unwrap()), now), now)
    }

    fn with_certificate(port: u16, version: ProtocolVersion, own: DtlsCertificate, now: Instant) -> Self {
        let config = Arc::new(Config::builder().with_crypto_provider(crypto::provider()).build().unwrap());
        let dtls = match version {
            ProtocolVersion::DTLS1_3 => Dtls::new_13(config, own, now),
            _ => Dtls::new_12(config, own, now),
        };
        Self::new(port, dtls, now)
    }

    fn hear(&mut self, packet: &[u8]) {
        // A fatal alert ends it, which is what some tests are about.
        if self.dtls.handle_packet(packet).is_err() {
            self.closed = true;
        }
        self.drain();
    }

    fn say(&mut self, data: &[u8]) {
        self.dtls.send_application_data(data).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => self.sent.push_back(packet.to_vec()),
                Output::Connected => self.connected = true,
                Output::ApplicationData(data) => self.heard.push(data.to_vec()),
                Output::CloseNotify => self.closed = true,
                Output::Timeout(_) => return,
                _ => {}
            }
        }
    }
}

/// A gateway's end.
struct Gateway {
    table: Associations,
    now: Instant,
    /// All events but packets.
    events: Vec<Event>,
}

impl Gateway {
    fn new(settings: &LinkDtls) -> Self {
        let now = Instant::now();
        let table = Associations::new(DtlsIdentity::load(settings, 255, &time()).unwrap());
        Self { table, now, events: Vec::new() }
    }

    /// Packets go to and fro until nobody has any.
    fn talk(&mut self, node: &mut Node) {
        loop {
            let sent = std::mem::take(&mut node.sent);
            for packet in &sent {
                self.table.handle_datagram(self.now, node.address, packet);
            }
            if !self.deliver(node) && sent.is_empty() {
                return;
            }
        }
    }

    /// Hands the node what is for it; whether there was anything.
    fn deliver(&mut self, node: &mut Node) -> bool {
        let events = self.table.take_events();
        let any = !events.is_empty();
        for event in events {
            match event {
                Event::Send { to, bytes } if to == node.address => node.hear(&bytes),
                Event::Send { .. } => {}
                event => self.events.push(event),
            }
        }
        any
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

fn opened(node: &Node, identity: &str) -> Event {
    Event::Opened { peer: node.address, identity: Some(identity.to_owned()) }
}

const KEY_7: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

#[test]
fn a_pre_shared_key_and_certificates_of_both_versions_prove_a_name_and_carry_messages_both_ways() {
    let authority = Authority::new();
    let mut gateway = Gateway::new(&authority.settings());
    let own = authority.issue("node-9");
    let now = gateway.now;
    let nodes = [
        ("node-7", Node::with_psk(1, "node-7", KEY_7, now)),
        ("node-9", Node::with_certificate(2, ProtocolVersion::DTLS1_2, own.clone(), now)),
        ("node-9", Node::with_certificate(3, ProtocolVersion::DTLS1_3, own, now)),
    ];
    for (identity, mut node) in nodes {
        gateway.talk(&mut node);
        assert!(node.connected);
        assert_eq!(gateway.events(), [opened(&node, identity)]);
        node.say(b"up");
        gateway.talk(&mut node);
        assert_eq!(gateway.events(), [Event::Data { peer: node.address, bytes: b"up".to_vec() }]);
        gateway.table.send(gateway.now, node.address, b"down");
        gateway.talk(&mut node);
        assert_eq!(node.heard, [b"down"]);
        node.dtls.close().unwrap();
        node.drain();
        gateway.talk(&mut node);
        assert_eq!(gateway.events(), [Event::Gone { peer: node.address }]);
        gateway.table.send(gateway.now, node.address, b"late");
    }
    let stats = gateway.table.stats();
    assert_eq!((stats.opened, stats.failed.total(), stats.strays), (3, 0, 3));
    assert_eq!((stats.associations, stats.handshakes, stats.closed), (0, 0, 3));
}

#[test]
fn who_has_no_key_the_wrong_key_or_a_strange_certificate_does_not_come_in() {
    let authority = Authority::new();
    let mut gateway = Gateway::new(&authority.settings());
    let stranger = Authority::new().issue("node-9");
    let now = gateway.now;
    let nodes = [
        Node::with_psk(1, "node-6", KEY_7, now),
        Node::with_psk(2, "node-7", &[9; 16], now),
        Node::with_certificate(3, ProtocolVersion::DTLS1_2, stranger.clone(), now),
        Node::with_certificate(4, ProtocolVersion::DTLS1_3, stranger, now),
    ];
    for mut node in nodes {
        gateway.talk(&mut node);
        let events = gateway.events();
        assert!(matches!(&events[..], [Event::Refused { peer, .. }] if *peer == node.address), "{events:?}");
        assert_eq!(gateway.table.deadline(), None);
    }
    let failed = DtlsFailures { unknown_identity: 1, wrong_key: 1, certificate: 2, ..DtlsFailures::default() };
    assert_eq!(gateway.table.stats().failed, failed);
}

#[test]
fn the_suites_that_a_hello_offers_are_found_and_a_short_one_offers_nothing() {
    let now = Instant::now();
    let by_key = Node::with_psk(1, "node-7", KEY_7, now).sent.pop_front().unwrap();
    let own = Authority::new().issue("node-9");
    let by_certificate = Node::with_certificate(2, ProtocolVersion::DTLS1_2, own, now).sent.pop_front().unwrap();
    assert!(offers(&by_key, 0xC0A8) && !offers(&by_certificate, 0xC0A8));
    assert!(offers(&by_certificate, 0xC02B));
    // Behind the header of record and message, version, random number, session, cookie, and the length of the suites.
    let end = 13 + 12 + 2 + 32 + 1 + 1 + 2 + 2;
    assert!((0..end).all(|length| !offers(&by_key[..length], 0xC0A8)));
}

#[test]
fn without_keys_a_link_takes_certificates_only_and_without_a_certificate_keys_only() {
    let authority = Authority::new();
    let both = authority.settings();
    let own = authority.issue("node-9");
    let certificates = LinkDtls { psk_file: None, ..both.clone() };
    let keys = LinkDtls { cert: None, key: None, client_ca: None, ..both };
    for (settings, by_key) in [(&certificates, false), (&keys, true)] {
        let mut gateway = Gateway::new(settings);
        let mut one = Node::with_psk(1, "node-7", KEY_7, gateway.now);
        let mut other = Node::with_certificate(2, ProtocolVersion::DTLS1_2, own.clone(), gateway.now);
        gateway.talk(&mut one);
        gateway.talk(&mut other);
        assert_eq!((one.connected, other.connected), (by_key, !by_key));
    }
}

#[test]
fn a_node_that_starts_again_gets_a_new_association_and_a_forged_hello_does_not_end_the_old_one() {
    let authority = Authority::new();
    let mut gateway = Gateway::new(&authority.settings());
    let mut node = Node::with_psk(1, "node-7", KEY_7, gateway.now);
    gateway.talk(&mut node);
    // Whoever forges it never gets the cookie.
    let forged = Node::with_psk(1, "node-7", KEY_7, gateway.now).sent;
    gateway.table.handle_datagram(gateway.now, node.address, &forged[0]);
    let answer = gateway.table.take_events();
    let [Event::Send { bytes, .. }] = &answer[..] else { panic!("{answer:?}") };
    assert!(bytes.len() < forged[0].len(), "{} bytes for {}", bytes.len(), forged[0].len());
    gateway.events();
    node.say(b"still here");
    gateway.talk(&mut node);
    assert_eq!(gateway.events(), [Event::Data { peer: node.address, bytes: b"still here".to_vec() }]);

    let mut again = Node::with_psk(1, "node-8", &[0x11; 8], gateway.now);
    gateway.table.handle_timeout(gateway.now + 50 * SECOND);
    gateway.now += 50 * SECOND;
    gateway.events();
    gateway.talk(&mut again);
    assert!(again.connected);
    assert_eq!(gateway.events().last(), Some(&opened(&again, "node-8")));
    again.say(b"anew");
    gateway.talk(&mut again);
    assert_eq!(gateway.events(), [Event::Data { peer: again.address, bytes: b"anew".to_vec() }]);
}

#[test]
fn forged_hellos_are_bounded_in_number_and_rate_and_give_way_to_each_other() {
    let authority = Authority::new();
    let settings = LinkDtls { max_handshakes: 4, max_hellos_per_second: 20, ..authority.settings() };
    let mut gateway = Gateway::new(&settings);
    for port in 1..=30 {
        let hello = Node::with_psk(port, "node-7", KEY_7, gateway.now).sent;
        gateway.table.handle_datagram(gateway.now, SocketAddr::from(([192, 0, 2, 1], port)), &hello[0]);
    }
    let stats = gateway.table.stats();
    assert_eq!((stats.displaced, stats.hellos_dropped), (16, 10));
    gateway.table.take_events();
    gateway.now += SECOND;
    let mut node = Node::with_psk(99, "node-7", KEY_7, gateway.now);
    gateway.talk(&mut node);
    assert!(node.connected, "the table is full of forged ones");
    gateway.now += 50 * SECOND;
    gateway.table.handle_timeout(gateway.now);
    assert_eq!(gateway.table.stats().failed, DtlsFailures { timeout: 3, ..DtlsFailures::default() });
}

#[test]
fn associations_are_bounded_the_quietest_gives_way_and_silence_ends_them() {
    let authority = Authority::new();
    let settings = LinkDtls { max_associations: 2, idle_timeout: 600 * SECOND, ..authority.settings() };
    let mut gateway = Gateway::new(&settings);
    let mut nodes = Vec::new();
    for port in 1..=3 {
        gateway.now += SECOND;
        let mut node = Node::with_psk(port, "node-7", KEY_7, gateway.now);
        gateway.talk(&mut node);
        nodes.push(node);
    }
    let first = nodes[0].address;
    assert_eq!(gateway.events()[2..], [Event::Gone { peer: first }, opened(&nodes[2], "node-7")]);
    gateway.now += 400 * SECOND;
    nodes[1].say(b"I am");
    gateway.talk(&mut nodes[1]);
    gateway.events();
    gateway.now += 300 * SECOND;
    gateway.table.handle_timeout(gateway.now);
    gateway.deliver(&mut nodes[2]);
    assert!(nodes[2].closed, "it is told");
    assert_eq!(gateway.events(), [Event::Gone { peer: nodes[2].address }]);
    let stats = gateway.table.stats();
    assert_eq!((stats.opened, stats.evicted, stats.idle), (3, 1, 1));
}

#[test]
fn whoever_has_an_association_is_told_when_the_link_goes() {
    let authority = Authority::new();
    let mut gateway = Gateway::new(&authority.settings());
    let own = authority.issue("node-9");
    let mut nodes = [
        Node::with_psk(1, "node-7", KEY_7, gateway.now),
        Node::with_certificate(2, ProtocolVersion::DTLS1_3, own, gateway.now),
    ];
    nodes.iter_mut().for_each(|node| gateway.talk(node));
    let beginner = Node::with_psk(3, "node-7", KEY_7, gateway.now);
    gateway.table.handle_datagram(gateway.now, beginner.address, &beginner.sent[0]);
    gateway.table.take_events();
    let stats = gateway.table.stats();
    assert_eq!((stats.associations, stats.handshakes), (2, 1));
    gateway.table.close();
    for event in gateway.table.take_events() {
        let Event::Send { to, bytes } = event else { panic!("{event:?}") };
        nodes.iter_mut().find(|node| node.address == to).unwrap().hear(&bytes);
    }
    assert!(nodes.iter().all(|node| node.closed));
    let stats = gateway.table.stats();
    assert_eq!((stats.associations, stats.handshakes, gateway.table.deadline()), (0, 0, None));
}

#[test]
fn garbage_and_changed_records_cost_nothing_but_themselves() {
    let authority = Authority::new();
    let mut gateway = Gateway::new(&authority.settings());
    let mut node = Node::with_psk(1, "node-7", KEY_7, gateway.now);
    gateway.talk(&mut node);
    let other = SocketAddr::from(([192, 0, 2, 9], 9));
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..2_000 {
        let from = if round % 2 == 0 { other } else { node.address };
        let mut garbage: Vec<u8> = (0..random.usize(0..120)).map(|_| random.u8(..)).collect();
        // Most of it looks like a record, and some like the beginning of a handshake.
        if let [kind, major, minor, epoch, _, ..] = &mut garbage[..] {
            *kind = random.u8(20..=25);
            (*major, *minor, *epoch) = (254, 253, 0);
        }
        gateway.table.handle_datagram(gateway.now, from, &garbage);
        gateway.now += Duration::from_millis(7);
    }
    gateway.deliver(&mut node);
    gateway.events();
    node.say(b"first");
    let mut changed = node.sent.pop_front().unwrap();
    node.say(b"second");
    let last = changed.len() - 1;
    changed[last] ^= 1;
    node.sent.push_front(changed);
    gateway.talk(&mut node);
    assert_eq!(gateway.events(), [Event::Data { peer: node.address, bytes: b"second".to_vec() }]);
}

#[test]
fn what_is_read_again_holds_for_the_next_handshake_and_what_is_broken_for_none() {
    let authority = Authority::new();
    let settings = authority.settings();
    let identity = DtlsIdentity::load(&settings, 255, &time()).unwrap();
    assert_eq!(identity.files().len(), 4);
    let now = Instant::now();
    let mut gateway = Gateway { table: Associations::new(Rc::clone(&identity)), now, events: vec![] };
    let key = [0xAB; 16];
    let mut early = Node::with_psk(1, "node-1", &key, now);
    gateway.talk(&mut early);
    assert!(!early.connected);
    authority.put("psk", format!("node-1:{}\n", "ab".repeat(16)));
    identity.reload().unwrap();
    let mut node = Node::with_psk(2, "node-1", &key, now);
    gateway.talk(&mut node);
    assert!(node.connected);
    authority.put("psk", "broken");
    assert!(identity.reload().is_err());
    let mut node = Node::with_psk(3, "node-1", &key, now);
    gateway.talk(&mut node);
    assert!(node.connected);
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let authority = Authority::new();
    let good = authority.settings();
    let chain = authority.put("chain.pem", std::fs::read(authority.path("gateway.pem")).unwrap().repeat(2));
    authority.issue("other");
    let with = |change: &dyn Fn(&mut LinkDtls)| {
        let mut settings = good.clone();
        change(&mut settings);
        DtlsIdentity::load(&settings, 255, &time()).map(|_| ()).unwrap_err()
    };
    let name =
        |error: &crate::io::tls::TlsError| error.file.as_deref().and_then(Path::file_name).unwrap().to_owned();
    for (error, file, words) in [
        (with(&|s| s.cert = Some(chain.clone())), "chain.pem", "more than one certificate"),
        (with(&|s| s.key = Some(authority.path("other.key"))), "other.key", "is not the key of"),
        (with(&|s| s.psk_file = Some(authority.path("missing"))), "missing", "cannot be read"),
        (with(&|s| s.crl = vec![authority.path("gateway.pem")]), "gateway.pem", "holds no revocation list"),
    ] {
        assert_eq!(name(&error), file, "{error}");
        assert!(error.problem.contains(words), "{error}");
    }
}
