//! Why the bridge speaks MQTT itself instead of driving rumqttc: two things that rumqttc 0.25.1 cannot do, each
//! shown against a scripted upstream. Promise 3 says "QoS 2 is exactly once on each hop, also across a restart of
//! the gateway", and both cases break it. If a later rumqttc passes, these tests fail and the choice is open again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rumqttc::{ConnectionError, Event, EventLoop, MqttOptions, Packet, StateError};

/// No step may take longer: a test that waits for what never comes fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(10);

const CONNACK_FRESH: &[u8] = &[0x20, 2, 0, 0];
const CONNACK_SESSION_PRESENT: &[u8] = &[0x20, 2, 1, 0];
/// QoS 2, topic `t`, packet identifier 7, payload `x`.
const PUBLISH_7: &[u8] = &[0x34, 6, 0, 1, b't', 0, 7, b'x'];
const PUBREC_7: [u8; 4] = [0x50, 2, 0, 7];
const PUBREL_7: &[u8] = &[0x62, 2, 0, 7];
const PUBCOMP_7: [u8; 4] = [0x70, 2, 0, 7];

/// An upstream that runs `script` on one connection after the other, once per entry.
struct Upstream {
    port: u16,
    thread: JoinHandle<()>,
}

impl Upstream {
    fn start(connections: usize, script: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = thread::spawn(move || {
            for _ in 0..connections {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut header = [0; 2];
                stream.read_exact(&mut header).unwrap();
                assert_eq!(header[0], 0x10, "CONNECT comes first");
                stream.read_exact(&mut vec![0; usize::from(header[1])]).unwrap();
                script(stream);
            }
        });
        Self { port, thread }
    }

    /// rumqttc as it is after a start of the process: a session that persists upstream, no memory here. Its
    /// acknowledgements are left to the application, the closest it offers to "acknowledge when it is safe".
    fn client(&self) -> EventLoop {
        let mut options = MqttOptions::new("gateway", "127.0.0.1", self.port);
        options.set_clean_session(false).set_manual_acks(true);
        EventLoop::new(options, 10)
    }
}

/// Runs `test` where rumqttc can: in a runtime, under a time limit.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("took too long") });
}

/// (a) The message was received and acknowledged with PUBREC, then the gateway restarted. The upstream resumes the
/// session and sends the PUBREL that is due [MQTT-4.4.0-1]. The gateway has the identifier in its store, but rumqttc
/// keeps received identifiers in a private field that starts empty, so it takes the PUBREL for an error and closes.
/// The PUBREL is still due on the next connection: the link never comes up again.
#[test]
fn a_pubrel_for_a_message_received_before_the_restart_ends_the_link_each_time() {
    const TRIES: usize = 3;
    let upstream = Upstream::start(TRIES, |mut stream| {
        stream.write_all(CONNACK_SESSION_PRESENT).unwrap();
        stream.write_all(PUBREL_7).unwrap();
        let mut answer = Vec::new();
        // A reset instead of an orderly end is as good: what matters is that no answer came before it.
        stream.read_to_end(&mut answer).ok();
        assert_eq!(answer, [], "a PUBCOMP is what should have come");
    });
    run(async {
        let mut client = upstream.client();
        for _ in 0..TRIES {
            assert!(
                matches!(client.poll().await, Ok(Event::Incoming(Packet::ConnAck(ack))) if ack.session_present)
            );
            let error = loop {
                match client.poll().await {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, ConnectionError::MqttState(StateError::Unsolicited(7))), "{error:?}");
        }
    });
    upstream.thread.join().unwrap();
}

/// (b) PUBCOMP leaves in the same call that reads PUBREL, and no option holds it back. PUBCOMP frees the identifier
/// for a new message [MQTT-4.3.3], so "forget the identifier" must be durable before it. Here the application learns
/// of the PUBREL when the upstream already has its PUBCOMP. If power fails now, the store still lists identifier 7
/// as received, and the next message that carries it is taken for a repetition and lost.
#[test]
fn pubcomp_leaves_before_the_application_can_forget_the_identifier() {
    let (seen, completed) = std::sync::mpsc::channel();
    let upstream = Upstream::start(1, move |mut stream| {
        let mut answer = [0; 4];
        stream.write_all(&[CONNACK_FRESH, PUBLISH_7].concat()).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, PUBREC_7);
        stream.write_all(PUBREL_7).unwrap();
        stream.read_exact(&mut answer).unwrap();
        seen.send(answer).unwrap();
    });
    run(async {
        let mut client = upstream.client();
        loop {
            match client.poll().await.unwrap() {
                Event::Incoming(Packet::Publish(publish)) => {
                    // The store has it: acknowledged by hand, which rumqttc allows for PUBACK and PUBREC only.
                    let pubrec = rumqttc::PubRec::new(publish.pkid);
                    client.pending.push_back(rumqttc::Request::PubRec(pubrec));
                }
                Event::Incoming(Packet::PubRel(_)) => break,
                _ => {}
            }
        }
        // The first news of the PUBREL. Nothing was polled since, nothing could be made durable, and yet:
        assert_eq!(completed.recv_timeout(PATIENCE).unwrap(), PUBCOMP_7);
    });
    upstream.thread.join().unwrap();
}
