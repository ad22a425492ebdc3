//! DTLS as OpenSSL and Mbed TLS speak it: with pre-shared keys and certificates, and what a node may do that proved its name so.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use moteway::mqtt::QoS;
use moteway::mqttsn::{
    Connect, Message, MsgId, PROTOCOL_ID, Publish, PublishQos, Register, ReturnCode, Topic, TopicId,
};
use serde_json::Value;

use crate::admin::body;
use crate::harness::certs::Certs;
use crate::harness::client::v5;
use crate::harness::gateway::Gateway;
use crate::harness::{BOUND, free_port, peers, until};

const KEY: &str = "00112233445566778899aabbccddeeff";

/// `openssl s_client`, which makes a record of each write.
struct Node {
    child: Child,
    octets: Receiver<Vec<u8>>,
}

impl Node {
    fn start(port: u16, more: &[&str]) -> Self {
        let at = format!("127.0.0.1:{port}");
        let mut child = Command::new("openssl")
            .args(["s_client", "-dtls1_2", "-quiet", "-connect", &at])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (tell, octets) = channel();
        std::thread::spawn(move || {
            let mut piece = [0; 2048];
            while let Ok(count @ 1..) = stdout.read(&mut piece)
                && tell.send(piece[..count].to_vec()).is_ok()
            {}
        });
        Self { child, octets }
    }

    fn with_key(port: u16, identity: &str, key: &str) -> Self {
        Self::start(port, &["-psk_identity", identity, "-psk", key, "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"])
    }

    fn with_certificate(port: u16, certs: &Certs) -> Self {
        let (cert, key) = certs.client();
        let [ca, cert, key] = [certs.ca(), cert, key].map(|path| path.display().to_string());
        Self::start(port, &["-verify_return_error", "-CAfile", &ca, "-cert", &cert, "-key", &key])
    }

    /// Waits until it has ended by itself: it was told that nothing comes any more.
    #[track_caller]
    fn ends(&mut self) {
        assert_eq!(self.octets.recv_timeout(BOUND), Err(RecvTimeoutError::Disconnected));
        self.child.wait().unwrap();
    }

    fn send(&mut self, message: &Message<'_>) {
        let mut octets = Vec::new();
        message.encode(&mut octets).unwrap();
        self.child.stdin.as_mut().unwrap().write_all(&octets).unwrap();
    }

    #[track_caller]
    fn receive(&mut self) -> Vec<u8> {
        self.octets.recv_timeout(BOUND).expect("nothing came over DTLS")
    }

    /// Whether it gets through a handshake and a CONNECT.
    #[track_caller]
    fn connect(&mut self, client_id: &str) {
        let connect =
            Connect { will: false, clean_session: true, protocol_id: PROTOCOL_ID, duration: 60, client_id };
        self.send(&Message::Connect(connect));
        assert!(matches!(Message::decode(&self.receive()), Ok(Message::ConnAck(ack)) if ack.code.is_accepted()));
    }

    #[track_caller]
    fn register(&mut self, topic: &str) -> TopicId {
        self.send(&Message::Register(Register { topic_id: TopicId::NONE, msg_id: MsgId(1), topic }));
        let octets = self.receive();
        let Ok(Message::RegAck(ack)) = Message::decode(&octets) else { panic!("{octets:?}") };
        assert!(ack.code.is_accepted());
        ack.topic_id
    }

    /// Publishes with QoS 1, and says what came of it.
    #[track_caller]
    fn publish(&mut self, topic: TopicId, payload: &[u8]) -> ReturnCode {
        let (topic, qos) = (Topic::Id(topic), PublishQos::Level(QoS::AtLeastOnce));
        self.send(&Message::Publish(Publish { dup: false, qos, retain: false, topic, msg_id: MsgId(2), payload }));
        let octets = self.receive();
        let Ok(Message::PubAck(ack)) = Message::decode(&octets) else { panic!("{octets:?}") };
        ack.code
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn gateway(certs: &Certs, psk: &Path, more: &str) -> (Gateway, u16) {
    let port = free_port();
    std::fs::write(psk, format!("# nodes\nnode-7:{KEY}\n")).unwrap();
    let gateway = Gateway::start(&format!(
        "[sn]\nadvertise_interval = \"0s\"\n[[link]]\nname = \"radio\"\nkind = \"udp\"\nbind = \"127.0.0.1:{port}\"\n\
         [link.dtls]\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\npsk_file = {psk:?}\nhandshake_timeout = \"3s\"\n{more}",
        certs.server_cert(),
        certs.server_key(),
        certs.ca()
    ));
    (gateway, port)
}

#[test]
fn openssl_connects_with_a_key_and_with_a_certificate_and_the_name_that_it_proves_counts_in_the_acl() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().unwrap());
    let acl = "[[acl]]\nanonymous = true\npublish = [\"local/#\"]\nsubscribe = [\"#\"]\n\
               [[acl]]\nuser = [\"node-7\", \"box\"]\npublish = [\"field/{user}\"]\n";
    let (gateway, port) = gateway(&certs, &dir.path().join("psk"), acl);
    let mut subscriber = gateway.client(&v5("subscriber"));
    subscriber.subscribe("field/#", QoS::AtLeastOnce);
    let nodes = [("node-7", Node::with_key(port, "node-7", KEY)), ("box", Node::with_certificate(port, &certs))];
    for (name, mut node) in nodes {
        node.connect(&format!("id of {name}"));
        let own = node.register(&format!("field/{name}"));
        assert!(node.publish(own, name.as_bytes()).is_accepted());
        subscriber.expect(&format!("field/{name}"), name);
        let other = node.register("field/other");
        assert!(!node.publish(other, b"not mine").is_accepted());
    }
}

#[test]
fn a_wrong_key_a_strange_certificate_and_garbage_come_to_nothing_and_stop_nobody() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().unwrap());
    let (mut gateway, port) = gateway(&certs, &dir.path().join("psk"), "");
    let mut good = Node::with_key(port, "node-7", KEY);
    good.connect("good");
    let strangers = Certs::new();
    let (cert, key) = strangers.client();
    let [cert, key] = [cert, key].map(|path| path.display().to_string());
    let _bad = [
        Node::with_key(port, "node-7", "ff112233445566778899aabbccddeeff"),
        Node::with_key(port, "node-8", KEY),
        Node::start(port, &["-cert", &cert, "-key", &key]),
    ];
    let noise = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut random = fastrand::Rng::with_seed(6);
    for _ in 0..500 {
        let octets: Vec<u8> = (0..random.usize(0..200)).map(|_| random.u8(..)).collect();
        noise.send_to(&octets, ("127.0.0.1", port)).unwrap();
        // A CONNECT in the clear.
        noise.send_to(&[7, 4, 4, 1, 0, 60, b'n'], ("127.0.0.1", port)).unwrap();
    }
    for _ in 0..3 {
        gateway.process().says("handshake failed");
    }
    noise.set_nonblocking(true).unwrap();
    assert!(noise.recv(&mut [0; 100]).is_err(), "somebody answered in the clear");
    let topic = good.register("still/here");
    assert!(good.publish(topic, b"yes").is_accepted());
}

/// The figures of the only link.
fn figures(gateway: &Gateway) -> Value {
    let ran = gateway.ask(&["status", "--json"]);
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    report["links"][0]["dtls"].clone()
}

#[test]
fn associations_are_counted_and_ended_with_a_word_when_they_are_idle_and_when_the_gateway_stops() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().unwrap());
    let (mut gateway, port) = gateway(&certs, &dir.path().join("psk"), "");
    let mut nodes = [Node::with_key(port, "node-7", KEY), Node::with_certificate(port, &certs)];
    nodes[0].connect("one");
    nodes[1].connect("other");
    let _unknown = Node::with_key(port, "node-8", KEY);
    let _wrong = Node::with_key(port, "node-7", "ff112233445566778899aabbccddeeff");
    until("all that can fail has failed", || {
        let failed = figures(&gateway)["failed"].clone();
        failed["unknown-identity"] == 1 && failed["wrong-key"] == 1
    });
    let figures = figures(&gateway);
    assert_eq!((&figures["associations"], &figures["opened"]), (&2.into(), &2.into()), "{figures}");
    let metrics = body(gateway.http(), "/metrics");
    for line in [
        "moteway_dtls_associations{link=\"radio\"} 2",
        "moteway_dtls_opened_total{link=\"radio\"} 2",
        "moteway_dtls_failed_total{link=\"radio\",reason=\"unknown-identity\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    let (status, _) = gateway.terminate();
    assert!(status.success());
    nodes.iter_mut().for_each(Node::ends);
}

#[test]
fn a_node_that_says_nothing_for_too_long_is_told_that_its_association_ends() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().unwrap());
    let (gateway, port) = gateway(&certs, &dir.path().join("psk"), "idle_timeout = \"1s\"\n");
    let mut node = Node::with_key(port, "node-7", KEY);
    node.connect("one");
    node.ends();
    assert_eq!(figures(&gateway)["idle"], 1);
}

#[test]
fn mbed_tls_connects_with_a_key_and_with_a_certificate_by_its_own_choice_of_suites() {
    let (certs, dir) = (Certs::new(), tempfile::tempdir().unwrap());
    let (gateway, port) = gateway(&certs, &dir.path().join("psk"), "");
    let mut subscriber = gateway.client(&v5("subscriber"));
    subscriber.subscribe("field/#", QoS::AtLeastOnce);
    let (cert, key) = certs.client();
    let [ca, cert, key] = [certs.ca(), cert, key].map(|path| path.display().to_string());
    for how in [&["key", "node-7", KEY][..], &["certificate", &ca, &cert, &key]] {
        peers::run_script("mbedtls_node.py", &[&[&*port.to_string()], how].concat());
        subscriber.expect("field/mbed", "hello");
    }
    assert_eq!(figures(&gateway)["opened"], 2);
}
