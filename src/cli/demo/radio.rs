//! The air between a sensor and the gateway: UDP, or a serial line over a pseudo-terminal. It may lose anything.

use std::fs;
use std::future::pending;
use std::io;
use std::path::PathBuf;

use tokio::io::AsyncReadExt;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_serial::{SerialPort as _, SerialStream};

use crate::mqttsn::Message;
use crate::mqttsn::framing::Framer;
use crate::time::{Duration, Instant};

/// N_RETRY: how often a request is repeated before the gateway counts as lost.
const RETRIES: u32 = 4;
/// Longest message.
const MTU: usize = 255;

/// The sensor's end.
#[derive(Debug)]
pub(super) enum Radio {
    /// Connected to the gateway's port.
    Udp(UdpSocket),
    Serial(Box<Line>),
}

impl Radio {
    /// Sends a request until it is answered, each time after `retry` (MQTT-SN 6.13). `None`: the gateway is lost.
    ///
    /// `message` is told whether this is a repetition; `answer` picks the answer out of what comes.
    pub(super) async fn request<'m, T>(
        &mut self,
        retry: Duration,
        message: impl Fn(bool) -> Message<'m>,
        answer: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Option<T> {
        for attempt in 0..=RETRIES {
            self.send(&message(attempt > 0)).await;
            if let Ok(answer) = timeout(retry, self.wait_for(&answer)).await {
                return Some(answer);
            }
        }
        None
    }

    /// Sends a message, or loses it.
    pub(super) async fn send(&mut self, message: &Message<'_>) {
        let mut octets = Vec::new();
        if message.encode(&mut octets).is_err() {
            return;
        }
        match self {
            Self::Udp(socket) => {
                // The first try may only report that an earlier datagram found nobody.
                if socket.send(&octets).await.is_err() {
                    socket.send(&octets).await.ok();
                }
            }
            Self::Serial(line) => line.send(&octets),
        }
    }

    async fn wait_for<T>(&mut self, answer: impl Fn(&Message<'_>) -> Option<T>) -> T {
        loop {
            let octets = self.recv().await;
            if let Ok(message) = Message::decode(&octets)
                && let Some(answer) = answer(&message)
            {
                return answer;
            }
        }
    }

    async fn recv(&mut self) -> Vec<u8> {
        match self {
            Self::Udp(socket) => {
                let mut octets = vec![0; MTU];
                loop {
                    match socket.recv(&mut octets).await {
                        Ok(len) => {
                            octets.truncate(len);
                            return octets;
                        }
                        // Nobody listens: the gateway was killed. The next datagram may find it.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                        Err(_) => return pending().await,
                    }
                }
            }
            Self::Serial(line) => line.recv().await,
        }
    }
}

/// The sensor's end of a serial line.
#[derive(Debug)]
pub(super) struct Line {
    framer: Framer,
    started: tokio::time::Instant,
    /// The adapter in use, and those that take its place.
    adapter: Option<SerialStream>,
    adapters: mpsc::Receiver<SerialStream>,
}

impl Line {
    fn send(&mut self, octets: &[u8]) {
        if let Ok(adapter) = self.adapters.try_recv() {
            self.take(adapter);
        }
        if let Some(adapter) = &mut self.adapter {
            // A line that nobody reads fills up; then it loses messages, as lines do.
            adapter.try_write(octets).ok();
        }
    }

    async fn recv(&mut self) -> Vec<u8> {
        let mut octets = [0; MTU];
        loop {
            if let Some(frame) = self.framer.next_frame() {
                return frame.to_vec();
            }
            let read = async {
                match &mut self.adapter {
                    Some(adapter) => adapter.read(&mut octets).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(adapter) = self.adapters.recv() => self.take(adapter),
                read = read => match read {
                    Ok(len) if len > 0 => self.framer.feed(since(self.started), &octets[..len]),
                    _ => self.adapter = None,
                },
            }
        }
    }

    fn take(&mut self, adapter: SerialStream) {
        self.adapter = Some(adapter);
        self.framer.reset();
    }
}

fn since(started: tokio::time::Instant) -> Instant {
    Instant::ZERO + started.elapsed()
}

/// The gateway's serial port: a name that stays, for a device that is a new one with each plugging in.
///
/// A process that was killed leaves a terminal that belongs to it alone (TIOCEXCL) for as long as anyone has it open.
/// A new one each time is what an adapter that lost its power gives as well.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    adapters: mpsc::Sender<SerialStream>,
    /// Held open, so that the other end never hangs up while the gateway is away.
    device: Option<SerialStream>,
}

impl Socket {
    /// A socket with this name, and the line that ends in it. Nothing is plugged in yet.
    pub(super) fn new(path: PathBuf) -> (Self, Line) {
        let (sender, adapters) = mpsc::channel(1);
        let framer = Framer::length(MTU);
        let started = tokio::time::Instant::now();
        (Self { path, adapters: sender, device: None }, Line { framer, started, adapter: None, adapters })
    }

    /// Plugs a new adapter in, in place of the one that is there.
    pub(super) async fn plug(&mut self) -> io::Result<()> {
        let (far, device) = SerialStream::pair()?;
        let name = device.name().ok_or_else(|| io::Error::other("a pseudo-terminal without a name"))?;
        if self.device.is_some() {
            fs::remove_file(&self.path)?;
        }
        std::os::unix::fs::symlink(name, &self.path)?;
        self.device = Some(device);
        self.adapters.send(far).await.map_err(|_| io::Error::other("the sensor on the serial line is gone"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::mqttsn::{ConnAck, ReturnCode};

    const RETRY: Duration = Duration::from_secs(5);

    fn is_pong(message: &Message<'_>) -> Option<()> {
        (*message == Message::PingResp).then_some(())
    }

    #[tokio::test]
    async fn a_request_is_repeated_until_its_answer_comes_and_other_messages_are_passed_over() {
        let gateway = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(gateway.local_addr().unwrap()).await.unwrap();
        let mut radio = Radio::Udp(socket);
        let asks = radio.request(
            Duration::from_millis(20),
            |dup| Message::WillMsg(if dup { b"2" } else { b"1" }),
            is_pong,
        );
        let answers = async {
            let mut octets = [0; 32];
            let (len, _) = gateway.recv_from(&mut octets).await.unwrap();
            assert_eq!(Message::decode(&octets[..len]), Ok(Message::WillMsg(b"1")));
            let (len, sensor) = gateway.recv_from(&mut octets).await.unwrap();
            assert_eq!(Message::decode(&octets[..len]), Ok(Message::WillMsg(b"2")));
            for message in [Message::ConnAck(ConnAck { code: ReturnCode::ACCEPTED }), Message::PingResp] {
                let mut octets = Vec::new();
                message.encode(&mut octets).unwrap();
                gateway.send_to(&octets, sensor).await.unwrap();
            }
        };
        let (answer, ()) = tokio::join!(asks, answers);
        assert_eq!(answer, Some(()));
    }

    #[tokio::test]
    async fn silence_ends_a_request() {
        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(nobody.local_addr().unwrap()).await.unwrap();
        drop(nobody);
        let mut radio = Radio::Udp(socket);
        let answer = radio.request(Duration::from_millis(1), |_| Message::PingResp, is_pong).await;
        assert_eq!(answer, None);
    }

    #[tokio::test]
    async fn a_line_goes_on_over_the_next_adapter_under_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let (mut socket, line) = Socket::new(dir.path().join("port"));
        let mut radio = Radio::Serial(Box::new(line));
        for _ in 0..2 {
            socket.plug().await.unwrap();
            let mut gateway = fs::OpenOptions::new().read(true).write(true).open(dir.path().join("port")).unwrap();
            let asks = radio.request(RETRY, |_| Message::WillMsgReq, is_pong);
            let answers = tokio::task::spawn_blocking(move || {
                use std::io::{Read, Write};
                let mut octets = [0; 2];
                gateway.read_exact(&mut octets).unwrap();
                gateway.write_all(&[2, 0x17]).unwrap();
                octets
            });
            let (answer, asked) = tokio::join!(asks, answers);
            assert_eq!((answer, asked.unwrap()), (Some(()), [2, 0x08]));
        }
    }
}
