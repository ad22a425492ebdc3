//! A broker as a cloud's own is: it serves one kind of client, and ends the connection of who goes past its limits.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use moteway::mqtt::{
    ConnAck, ConnAckProperties, Connect, Disconnect, Frame, MAX_PACKET, Packet, PubAck, Publish, PublishProperties,
    QoS, ReasonCode, SubAck, Version, frame,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::harness::certs::Certs;

type Tls = StreamOwned<ServerConnection, TcpStream>;

/// What a cloud allows.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// The one version, if there is one.
    pub(super) version: Option<Version>,
    pub(super) max_qos: QoS,
    pub(super) retain: bool,
    /// Topic and payload.
    pub(super) max_message: usize,
    pub(super) max_slashes: usize,
    /// Below this prefix and one more level slashes are counted anew.
    pub(super) deep: Option<&'static str>,
    pub(super) filters: usize,
    pub(super) subscriptions: usize,
    pub(super) inflight: usize,
    pub(super) max_keepalive: u16,
    /// Messages and bytes in a second. Somebody who was quiet has saved up one second's worth.
    pub(super) rate: Option<[usize; 2]>,
    /// A client certificate is asked for.
    pub(super) certificate: bool,
    /// What must be among what is offered by ALPN.
    pub(super) alpn: Option<&'static str>,
    /// The name that must be asked for by SNI.
    pub(super) sni: Option<&'static str>,
    /// Told in CONNACK.
    pub(super) properties: ConnAckProperties<'static>,
    /// Looks at user name and password.
    pub(super) login: fn(Option<&str>, Option<&[u8]>) -> bool,
    /// Topics that may be published to begin so.
    pub(super) publish_prefix: &'static str,
    /// Sent to who subscribes.
    pub(super) command: Option<&'static str>,
}

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Taken {
    pub(super) topic: String,
    pub(super) payload: usize,
}

#[derive(Default)]
struct Book {
    taken: BTreeSet<Taken>,
    /// Why connections were ended.
    violations: Vec<String>,
    connections: usize,
    aliased: usize,
}

/// Serves until it is dropped.
pub(super) struct Endpoint {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<Mutex<bool>>,
}

impl Endpoint {
    pub(super) fn start(certs: &Certs, terms: Terms) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (book, stop) = (Arc::new(Mutex::new(Book::default())), Arc::new(Mutex::new(false)));
        let config = server_config(certs, &terms);
        let thread = std::thread::spawn({
            let (book, stop) = (Arc::clone(&book), Arc::clone(&stop));
            move || {
                // One connection a device: the next is served when the last has ended.
                while let Ok((stream, _)) = listener.accept() {
                    if *stop.lock().unwrap() {
                        return;
                    }
                    book.lock().unwrap().connections += 1;
                    if let Err(violation) = Connection::serve(stream, &config, &terms, &book, &stop) {
                        book.lock().unwrap().violations.push(violation);
                    }
                }
            }
        });
        Self { address, book, thread: Some(thread), stop }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn taken(&self) -> Vec<Taken> {
        self.book.lock().unwrap().taken.iter().cloned().collect()
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.book.lock().unwrap().violations.clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.book.lock().unwrap().connections
    }

    pub(super) fn aliased(&self) -> usize {
        self.book.lock().unwrap().aliased
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn server_config(certs: &Certs, terms: &Terms) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certs.server_cert()).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(certs.server_key()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if terms.certificate {
        let mut roots = RootCertStore::empty();
        let ca: PathBuf = certs.ca();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = terms.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

struct Connection<'a> {
    stream: Tls,
    terms: &'a Terms,
    book: &'a Mutex<Book>,
    version: Version,
    filters: BTreeSet<String>,
    aliases: std::collections::BTreeMap<u16, String>,
    /// Acknowledgements that are held back until something else comes or nothing does.
    unacknowledged: Vec<u16>,
    /// What it may still send, in messages and bytes, and when that was.
    credit: [f64; 2],
    credit_at: Instant,
}

impl<'a> Connection<'a> {
    /// Until the peer leaves; the error is what it did wrong.
    fn serve(
        stream: TcpStream,
        config: &Arc<ServerConfig>,
        terms: &'a Terms,
        book: &'a Mutex<Book>,
        stop: &Mutex<bool>,
    ) -> Result<(), String> {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
        let mut this = Self {
            stream,
            terms,
            book,
            version: Version::V5,
            filters: BTreeSet::new(),
            aliases: std::collections::BTreeMap::new(),
            unacknowledged: Vec::new(),
            credit: terms.rate.unwrap_or_default().map(|rate| rate as f64),
            credit_at: Instant::now(),
        };
        let (mut bytes, mut buffer) = (Vec::new(), [0; 64 * 1024]);
        let mut greeted = false;
        while !*stop.lock().unwrap() {
            match this.stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    this.acknowledge();
                    continue;
                }
                // It left: a probe, or a handshake that was not to be.
                Err(_) => return Ok(()),
            }
            let mut used = 0;
            while let Some(packet) = frame(&bytes[used..], MAX_PACKET).map_err(|error| error.to_string())? {
                used += packet.raw.len();
                let outcome = if greeted { this.packet(&packet) } else { this.hello(&packet) };
                greeted = true;
                match outcome {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    Err(violation) => {
                        this.close();
                        return Err(violation);
                    }
                }
            }
            bytes.drain(..used);
        }
        Ok(())
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        // Whoever has left does not hear it.
        self.stream.write_all(&bytes).and_then(|()| self.stream.flush()).ok();
    }

    fn close(&mut self) {
        if self.version == Version::V5 {
            self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::UnspecifiedError)));
        }
        self.stream.conn.send_close_notify();
        self.stream.flush().ok();
    }

    fn hello(&mut self, frame: &Frame<'_>) -> Result<bool, String> {
        let connect = Connect::decode(frame).map_err(|error| format!("no CONNECT: {error}"))?;
        self.version = connect.version;
        let terms = self.terms;
        if let Some(name) = terms.sni
            && self.stream.conn.server_name() != Some(name)
        {
            return Err(format!("SNI is {:?}", self.stream.conn.server_name()));
        }
        if let Some(name) = terms.alpn
            && self.stream.conn.alpn_protocol() != Some(name.as_bytes())
        {
            return Err("ALPN".to_owned());
        }
        if terms.version.is_some_and(|version| version != connect.version) {
            return Err(format!("version {:?}", connect.version));
        }
        if connect.keep_alive > terms.max_keepalive || connect.keep_alive == 0 {
            return Err(format!("keep-alive {}", connect.keep_alive));
        }
        if connect.client_id.len() > 128 {
            return Err("client id".to_owned());
        }
        if !(terms.login)(connect.username, connect.password) {
            self.send(&Packet::ConnAck(ConnAck::refusal(ReasonCode::BadUserNameOrPassword)));
            return Err(format!("log-in of {:?}", connect.username));
        }
        if let Some(will) = connect.will
            && (will.qos > terms.max_qos || (will.retain && !terms.retain))
        {
            return Err("will".to_owned());
        }
        let properties = if self.version == Version::V5 { terms.properties } else { ConnAckProperties::default() };
        self.send(&Packet::ConnAck(ConnAck { properties, ..ConnAck::default() }));
        Ok(true)
    }

    fn packet(&mut self, frame: &Frame<'_>) -> Result<bool, String> {
        match Packet::decode(self.version, frame).map_err(|error| error.to_string())? {
            Packet::Publish(publish) => self.publish(&publish)?,
            Packet::Subscribe(subscribe) => {
                let mut codes = Vec::new();
                if subscribe.filters.count() > self.terms.filters {
                    return Err("filters in one SUBSCRIBE".to_owned());
                }
                for wanted in subscribe.filters {
                    if wanted.options.qos > self.terms.max_qos {
                        return Err(format!("subscription at {:?}", wanted.options.qos));
                    }
                    self.filters.insert(wanted.filter.to_owned());
                    codes.push(wanted.options.qos.as_u8());
                }
                if self.filters.len() > self.terms.subscriptions {
                    return Err(format!("{} subscriptions", self.filters.len()));
                }
                self.send(&Packet::SubAck(SubAck {
                    pkid: subscribe.pkid,
                    properties: Default::default(),
                    codes: codes.as_slice(),
                }));
                if let Some(topic) = self.terms.command {
                    self.send(&Packet::Publish(Publish {
                        dup: false,
                        qos: QoS::AtLeastOnce,
                        retain: false,
                        topic,
                        pkid: 1,
                        properties: PublishProperties::default(),
                        payload: b"on",
                    }));
                }
            }
            Packet::PingReq => self.send(&Packet::PingResp),
            Packet::Disconnect(_) => return Ok(false),
            Packet::PubAck(_) => {}
            other => return Err(format!("{other:?} is not served here")),
        }
        Ok(true)
    }

    /// Takes a message out of what may be sent.
    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        let Some(rate) = self.terms.rate else { return Ok(()) };
        let passed = self.credit_at.elapsed().as_secs_f64();
        self.credit_at = Instant::now();
        for ((credit, rate), cost) in self.credit.iter_mut().zip(rate).zip([1, bytes]) {
            *credit = (*credit + rate as f64 * passed).min(rate as f64) - cost as f64;
            if *credit < 0.0 {
                return Err(format!("too fast for {rate} a second"));
            }
        }
        Ok(())
    }

    fn publish(&mut self, publish: &Publish<'_>) -> Result<(), String> {
        self.charge(publish.topic.len() + publish.payload.len())?;
        let terms = self.terms;
        let topic = match (publish.topic, publish.properties.topic_alias) {
            ("", Some(alias)) => {
                self.book.lock().unwrap().aliased += 1;
                self.aliases.get(&alias).cloned().ok_or("unknown topic alias")?
            }
            (topic, Some(alias)) => {
                if alias > terms.properties.topic_alias_maximum.unwrap_or(0) {
                    return Err(format!("topic alias {alias}"));
                }
                self.aliases.insert(alias, topic.to_owned());
                topic.to_owned()
            }
            (topic, None) => topic.to_owned(),
        };
        let counted = terms.deep.and_then(|prefix| topic.strip_prefix(prefix));
        let counted = counted.map_or(topic.as_str(), |rest| rest.split_once('/').map_or("", |(_, rest)| rest));
        let slashes = counted.matches('/').count();
        if publish.qos > terms.max_qos {
            return Err(format!("PUBLISH at {:?}", publish.qos));
        }
        if publish.retain && !terms.retain {
            return Err("retained PUBLISH".to_owned());
        }
        if topic.len() + publish.payload.len() > terms.max_message {
            return Err(format!("message of {} bytes", publish.payload.len()));
        }
        if slashes > terms.max_slashes {
            return Err(format!("topic with {slashes} slashes"));
        }
        if !topic.starts_with(terms.publish_prefix) && !terms.deep.is_some_and(|deep| topic.starts_with(deep)) {
            return Err(format!("topic {topic}"));
        }
        self.book.lock().unwrap().taken.insert(Taken { topic, payload: publish.payload.len() });
        if publish.qos == QoS::AtLeastOnce {
            self.unacknowledged.push(publish.pkid);
            if self.unacknowledged.len() > terms.inflight {
                return Err(format!("{} unacknowledged", self.unacknowledged.len()));
            }
            // At the limit, those that are there are answered: one more would have been too many.
            if self.unacknowledged.len() == terms.inflight {
                self.acknowledge();
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        for pkid in std::mem::take(&mut self.unacknowledged) {
            self.send(&Packet::PubAck(PubAck::new(pkid, ReasonCode::Success)));
        }
    }
}
