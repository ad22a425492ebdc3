//! One association, from the first ClientHello to its end.

use std::rc::Rc;
use std::time::Instant;

use dimpl::{Dtls, Output};

use crate::io::dtls::identity::Current;
use crate::io::dtls::keys::Asked;

/// A record with its header is at most this long.
const MAX_RECORD_BYTES: usize = 16 * 1024 + 512;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nobody knows whether the address is that of the sender.
    Hello,
    /// It sent back the cookie.
    Proven,
    Open,
}

/// Why an association is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The peer said so.
    Closed,
    /// It was silent for too long.
    Silent,
    /// Its certificate is not accepted, or it has shown none.
    Untrusted(String),
    /// What it sent cannot be deciphered, or not be made out.
    Garbled(String),
    Failed(String),
}

/// What came of one step.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// To be sent to the peer.
    pub(super) packets: Vec<Vec<u8>>,
    /// What the peer said.
    pub(super) data: Vec<Vec<u8>>,
    pub(super) end: Option<End>,
}

/// Keys shared with one address, or on the way to it.
pub(super) struct Association {
    dtls: Dtls,
    current: Rc<Current>,
    pub(super) phase: Phase,
    /// The name that the peer proved.
    pub(super) identity: Option<String>,
    /// The certificate, if one is asked for, was good.
    trusted: bool,
    /// Whose pre-shared key was asked for. Who has none is not told, and cannot come in.
    pub(super) asked: Option<Asked>,
    pub(super) heard_at: Instant,
    /// When the library wants to be called.
    pub(super) retry_at: Instant,
    /// When the table's timer for it goes off.
    pub(super) timer_at: Option<Instant>,
}

impl Association {
    /// That of whoever sent this ClientHello.
    pub(super) fn new(current: Rc<Current>, now: Instant, hello: &[u8]) -> Self {
        let dtls = current.server(now, hello);
        let phase = Phase::Hello;
        Self {
            dtls,
            current,
            phase,
            identity: None,
            trusted: false,
            asked: None,
            heard_at: now,
            retry_at: now,
            timer_at: None,
        }
    }

    /// A datagram came.
    pub(super) fn handle_packet(&mut self, now: Instant, packet: &[u8], buffer: &mut Vec<u8>) -> Progress {
        let result = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(packet));
        self.heard_at = now;
        if let Some(asked) = self.current.keys.as_ref().and_then(|keys| keys.take_asked()) {
            if let Asked::Known(identity) = &asked {
                self.identity = Some(identity.clone());
                self.trusted = true;
            }
            self.asked = Some(asked);
        }
        self.finish(result, buffer)
    }

    /// The library may have to repeat something.
    pub(super) fn handle_timeout(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Progress {
        let result = self.dtls.handle_timeout(now);
        self.finish(result, buffer)
    }

    /// Something goes to the peer.
    pub(super) fn send(&mut self, now: Instant, data: &[u8], buffer: &mut Vec<u8>) -> Progress {
        let result = self.dtls.handle_timeout(now).and_then(|()| self.dtls.send_application_data(data));
        self.finish(result.map(|_| ()), buffer)
    }

    /// It is over; the peer is told.
    pub(super) fn close(&mut self, buffer: &mut Vec<u8>) -> Progress {
        let result = self.dtls.close();
        self.finish(result, buffer)
    }

    fn finish(&mut self, result: Result<(), dimpl::Error>, buffer: &mut Vec<u8>) -> Progress {
        let mut progress = Progress::default();
        self.drain(&mut progress, buffer);
        if let Err(error) = result
            && progress.end.is_none()
        {
            let why = error.to_string();
            progress.end = Some(match error {
                dimpl::Error::CertificateError(_) => End::Untrusted(why),
                dimpl::Error::CryptoError(_) => End::Garbled(why),
                dimpl::Error::Timeout(_) => End::Silent,
                _ => End::Failed(why),
            });
        }
        progress
    }

    fn drain(&mut self, progress: &mut Progress, buffer: &mut Vec<u8>) {
        loop {
            match self.dtls.poll_output(buffer) {
                Output::Packet(packet) => {
                    if self.phase == Phase::Hello && !asks_for_cookie(packet) {
                        self.phase = Phase::Proven;
                    }
                    progress.packets.push(packet.to_vec());
                }
                Output::BufferTooSmall { needed } => {
                    if needed <= buffer.len() || needed > MAX_RECORD_BYTES {
                        progress.end = Some(End::Failed(format!("a record of {needed} bytes")));
                        return;
                    }
                    buffer.resize(needed, 0);
                }
                Output::PeerCert(der) => match self.current.check(der) {
                    Ok(name) => {
                        self.identity = name;
                        self.trusted = true;
                    }
                    Err(why) => progress.end = Some(End::Untrusted(why)),
                },
                Output::Connected if self.trusted || !self.current.asks_for_a_name() => self.phase = Phase::Open,
                Output::Connected => {
                    progress.end = Some(End::Untrusted("it proved no name".to_owned()));
                }
                Output::ApplicationData(data) if self.phase == Phase::Open && progress.end.is_none() => {
                    progress.data.push(data.to_vec());
                }
                Output::CloseNotify => progress.end = Some(End::Closed),
                Output::Timeout(at) => {
                    self.retry_at = at;
                    return;
                }
                _ => {}
            }
        }
    }
}

/// Whether a packet of ours is a HelloVerifyRequest (DTLS 1.2) or a HelloRetryRequest (DTLS 1.3), which both only
/// ask for a cookie. Both are the first message of their record.
fn asks_for_cookie(packet: &[u8]) -> bool {
    const HELLO_VERIFY_REQUEST: u8 = 3;
    const SERVER_HELLO: u8 = 2;
    /// RFC 8446, 4.1.3: what a HelloRetryRequest has for its random number begins so.
    const RETRY: [u8; 8] = [0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11];
    let message = packet.get(HEADER_BYTES..).unwrap_or_default();
    match message.first() {
        Some(&HELLO_VERIFY_REQUEST) => true,
        // Behind the handshake header of 12 octets and the version.
        Some(&SERVER_HELLO) => message.get(14..22) == Some(&RETRY),
        _ => false,
    }
}

/// Whether a ClientHello offers this cipher suite (RFC 6347, 4.2.1). Of one in fragments, only the first is looked at.
pub(super) fn offers(hello: &[u8], suite: u16) -> bool {
    /// Header of the message, version and random number.
    const FIXED_BYTES: usize = 12 + 2 + 32;
    let suites = || {
        let mut rest = hello.get(HEADER_BYTES + FIXED_BYTES..)?;
        // Session and cookie.
        for _ in 0..2 {
            let (length, behind) = rest.split_first()?;
            rest = behind.get(usize::from(*length)..)?;
        }
        let (length, rest) = rest.split_first_chunk::<2>()?;
        rest.get(..usize::from(u16::from_be_bytes(*length)))
    };
    suites().is_some_and(|suites| suites.chunks_exact(2).any(|one| one == suite.to_be_bytes()))
}

/// Of a record.
const HEADER_BYTES: usize = 13;
/// Its first octet, if it is part of a handshake.
const HANDSHAKE: u8 = 22;

/// Whether a datagram begins with a record that is not encrypted.
pub(super) fn is_plain(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES && matches!(datagram[0], 20..=25) && datagram[3..5] == [0, 0]
}

/// Whether a datagram begins a handshake, or repeats its beginning.
pub(super) fn is_client_hello(datagram: &[u8]) -> bool {
    const CLIENT_HELLO: u8 = 1;
    is_plain(datagram) && datagram[0] == HANDSHAKE && datagram.get(HEADER_BYTES) == Some(&CLIENT_HELLO)
}
