//! What a connection runs over: TCP, or TLS over it. Full handshakes only: a storm of new clients has no tickets.

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

/// Where the broker is, and how to talk to it.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Trusts the CA in this file alone.
pub(crate) fn client_config(ca: &Path) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Writes `cert.pem`, which is its own CA, and `key.pem` for a broker on the loopback.
pub(crate) fn write_certificate(directory: &Path) -> Result<(), Box<dyn Error>> {
    let key = rcgen::KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    std::fs::write(directory.join("cert.pem"), certificate.pem())?;
    std::fs::write(directory.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

impl Transport {
    pub(crate) fn dial(broker: &Broker) -> io::Result<Self> {
        let stream = TcpStream::connect(broker.address)?;
        stream.set_nodelay(true)?;
        let Some(config) = &broker.tls else { return Ok(Self::Tcp(stream)) };
        let name = ServerName::IpAddress(broker.address.ip().into());
        let tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(tls, stream))))
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// Whether bytes that were taken wait for the kernel.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(tls) => tls.conn.wants_write(),
        }
    }

    /// Gives the kernel what was held back, as much as it takes.
    pub(crate) fn push(&mut self) -> io::Result<()> {
        let Self::Tls(tls) = self else { return Ok(()) };
        while tls.conn.wants_write() {
            match tls.conn.write_tls(&mut tls.sock) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Transport {
    /// As a socket reads; under TLS `WouldBlock` also while the handshake is not over.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let tls = match self {
            Self::Tcp(stream) => return stream.read(buffer),
            Self::Tls(tls) => tls,
        };
        loop {
            match tls.conn.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            let came = tls.conn.read_tls(&mut tls.sock)?;
            tls.conn.process_new_packets().map_err(io::Error::other)?;
            // The handshake's next flight.
            while tls.conn.wants_write() {
                tls.conn.write_tls(&mut tls.sock)?;
            }
            if came == 0 {
                return Ok(0);
            }
        }
    }
}

impl Write for Transport {
    /// Under TLS all is taken, if need be before the handshake is over; [`Transport::push`] sends it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(tls) => {
                tls.conn.set_buffer_limit(None);
                let count = tls.conn.writer().write(bytes)?;
                self.push()?;
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}
