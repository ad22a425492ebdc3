//! Serial links. A port may come and go (USB): it is opened again and again until it is there.

mod pace;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, sleep_until};
use tokio_serial::{ClearBuffer, DataBits, FlowControl, Parity, SerialPort as _, SerialStream, StopBits};

use crate::config::{LinkId, SerialLink};
use crate::engine::Input;
use crate::io::Driver;
use crate::io::driver::Core;
use crate::io::serial::pace::Pace;
use crate::io::share::come_back_later;
use crate::metrics::PortStats;
use crate::time::{Duration, Now};

/// Between two attempts to open a port.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// Outgoing bytes that wait for a slow port: some seconds at 115 200 baud.
const MAX_QUEUED_BYTES: usize = 64 * 1024;
/// Bytes read from one port before other tasks get their turn: a tenth of a second at 115 200 baud. As little as two
/// bytes may be a message that is answered.
const READ_BYTES_PER_TURN: usize = 1024;

/// What waits to be written to a port.
#[derive(Default)]
pub(super) struct SerialPort {
    queue: RefCell<VecDeque<Vec<u8>>>,
    /// Bytes in the queue; its head counts in full until all of it is written.
    queued_bytes: Cell<usize>,
    /// Bytes of the head that are already written.
    written: Cell<usize>,
    is_open: Cell<bool>,
    dropped: Cell<u64>,
    task: RefCell<Option<Waker>>,
}

/// Moves bytes between a port and the engine for ever, and tells the engine when the port comes and goes.
#[expect(clippy::disallowed_methods, reason = "a shell waits")]
pub async fn serve_serial(driver: Rc<Driver>, link: LinkId, options: SerialLink) {
    let port = Rc::new(SerialPort::default());
    driver.add_serial(link, Rc::clone(&port));
    let mut told = String::new();
    loop {
        let error = match open(&options) {
            Ok(opened) => {
                told.clear();
                port.is_open.set(true);
                driver.input(Input::SerialOpened { link });
                let pace = Pace::new(options.gap, options.turnaround, options.baud);
                let error = port.serve(&driver, link, opened, pace).await;
                port.close();
                error
            }
            Err(error) => error.to_string(),
        };
        // A port that stays away is reported once.
        if error != told {
            told.clone_from(&error);
            driver.input(Input::SerialClosed { link, error });
        }
        sleep(REOPEN_AFTER).await;
    }
}

/// An open port.
struct Port(SerialStream);

impl Drop for Port {
    fn drop(&mut self) {
        // The system lets a closing port drain for up to half a minute, and the whole daemon would wait for it.
        self.0.clear(ClearBuffer::Output).ok();
    }
}

/// Always 8 data bits, no parity, one stop bit.
fn open(options: &SerialLink) -> tokio_serial::Result<Port> {
    let flow_control = match (options.rtscts, options.xonxoff) {
        (true, _) => FlowControl::Hardware,
        (false, true) => FlowControl::Software,
        (false, false) => FlowControl::None,
    };
    let settings = tokio_serial::new(options.device.to_string_lossy(), options.baud)
        .data_bits(DataBits::Eight)
        .parity(Parity::None)
        .stop_bits(StopBits::One)
        .flow_control(flow_control);
    SerialStream::open(&settings).map(Port)
}

impl SerialPort {
    /// Queues bytes for the port; drops them when it is closed or slow.
    pub(super) fn write(&self, bytes: Vec<u8>) {
        let queued_bytes = self.queued_bytes.get() + bytes.len();
        if !self.is_open.get() || queued_bytes > MAX_QUEUED_BYTES {
            self.dropped.set(self.dropped.get() + 1);
            return;
        }
        self.queued_bytes.set(queued_bytes);
        self.queue.borrow_mut().push_back(bytes);
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    pub(super) fn stats(&self) -> PortStats {
        PortStats { dropped: self.dropped.get(), ..PortStats::default() }
    }

    fn close(&self) {
        self.is_open.set(false);
        self.queue.take();
        self.queued_bytes.set(0);
        self.written.set(0);
    }

    /// Serves an open port until it fails; returns why.
    async fn serve(&self, driver: &Rc<Driver>, link: LinkId, mut opened: Port, mut pace: Pace) -> String {
        let start = driver.clock.to_system(driver.clock.now().at);
        let mut alarm = pin!(sleep_until(start.into()));
        poll_fn(|cx| {
            *self.task.borrow_mut() = Some(cx.waker().clone());
            let now = driver.clock.now();
            let mut core = driver.core();
            let read = self.poll_read(&mut opened.0, driver, link, &mut core, now, cx);
            driver.end_turn(core);
            if matches!(read, Ok(true)) {
                pace.on_heard(now.at);
            }
            let written = loop {
                // What waits for its turn is written when that has come.
                if self.may_not_begin(driver, &pace, now, alarm.as_mut(), cx) {
                    break Ok(());
                }
                match self.poll_write(&mut opened.0, cx) {
                    Ok(Some(octets)) => pace.on_sent(now.at, octets),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            match read.map(|_| ()).and(written) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error.to_string()),
            }
        })
        .await
    }

    /// Hands what came to the engine. Whether anything did.
    fn poll_read(
        &self,
        stream: &mut SerialStream,
        driver: &Driver,
        link: LinkId,
        core: &mut Core,
        now: Now,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut buffer = driver.buffer.borrow_mut();
        let mut left = READ_BYTES_PER_TURN;
        while left > 0 {
            let mut room = ReadBuf::new(&mut buffer[..left]);
            match Pin::new(&mut *stream).poll_read(cx, &mut room)? {
                Poll::Pending => return Ok(left < READ_BYTES_PER_TURN),
                Poll::Ready(()) if room.filled().is_empty() => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the port was hung up"));
                }
                Poll::Ready(()) => {
                    left -= room.filled().len();
                    core.input(now, Input::SerialBytes { link, bytes: room.filled() });
                }
            }
        }
        come_back_later(cx);
        Ok(true)
    }

    /// Whether a message waits that may not begin yet; then this comes back when it may.
    fn may_not_begin(
        &self,
        driver: &Driver,
        pace: &Pace,
        now: Now,
        mut alarm: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> bool {
        if self.written.get() > 0 || self.queue.borrow().is_empty() || pace.free_at() <= now.at {
            return false;
        }
        alarm.as_mut().reset(driver.clock.to_system(pace.free_at()).into());
        if alarm.poll(cx).is_ready() {
            come_back_later(cx);
        }
        true
    }

    /// Writes the message at the head of the queue. Its octets, once all of them are written.
    fn poll_write(&self, stream: &mut SerialStream, cx: &mut Context<'_>) -> io::Result<Option<usize>> {
        let mut queue = self.queue.borrow_mut();
        while let Some(bytes) = queue.front() {
            let left = &bytes[self.written.get()..];
            match Pin::new(&mut *stream).poll_write(cx, left)? {
                Poll::Pending => break,
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) if count < left.len() => self.written.set(self.written.get() + count),
                Poll::Ready(_) => {
                    let octets = bytes.len();
                    self.queued_bytes.set(self.queued_bytes.get() - octets);
                    self.written.set(0);
                    queue.pop_front();
                    return Ok(Some(octets));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use nix::fcntl::OFlag;
    use nix::pty::{grantpt, openpty, posix_openpt, ptsname_r, unlockpt};
    use nix::sys::termios::{
        ControlFlags, InputFlags, LocalFlags, OutputFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr,
    };
    use nix::unistd::ttyname;
    use tokio::net::UdpSocket;
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::config::{Config, LinkKind};
    use crate::engine::{Engine, Start};
    use crate::io::Disk;
    use crate::queue::{Batch, Read, Recovered};
    use crate::sys::Clock;

    #[test]
    fn a_port_that_is_slow_or_closed_costs_messages_and_they_are_counted() {
        let port = SerialPort::default();
        port.write(vec![0; 10]);
        assert_eq!((port.stats().dropped, port.queue.borrow().len()), (1, 0), "it was never opened");
        port.is_open.set(true);
        for _ in 0..MAX_QUEUED_BYTES / 1024 {
            port.write(vec![0; 1024]);
        }
        assert_eq!(port.stats().dropped, 1);
        port.write(vec![0; 1]);
        assert_eq!((port.stats().dropped, port.queued_bytes.get()), (2, MAX_QUEUED_BYTES));
        port.close();
        assert_eq!((port.queue.borrow().len(), port.queued_bytes.get()), (0, 0));
    }

    #[test]
    fn a_port_is_set_to_what_the_configuration_says() {
        let pty = openpty(None, None).unwrap();
        let device = ttyname(&pty.slave).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        // Not every speed has a name of its own.
        for (baud, rtscts, xonxoff) in [(9600, false, false), (115_200, true, false), (250_000, false, true)] {
            let options = SerialLink { device: device.clone(), baud, rtscts, xonxoff, ..SerialLink::default() };
            let opened = runtime.block_on(async { open(&options) }).unwrap();
            let set = tcgetattr(&pty.slave).unwrap();
            assert_eq!(opened.0.baud_rate().unwrap(), baud);
            let control = set.control_flags;
            assert_eq!(control & ControlFlags::CSIZE, ControlFlags::CS8);
            assert!(!control.intersects(ControlFlags::PARENB | ControlFlags::CSTOPB), "{control:?}");
            assert_eq!(control.contains(ControlFlags::CRTSCTS), rtscts);
            let software = InputFlags::IXON | InputFlags::IXOFF;
            let wanted = if xonxoff { software } else { InputFlags::empty() };
            assert_eq!(set.input_flags & software, wanted);
            assert!(!set.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
            assert!(!set.output_flags.contains(OutputFlags::OPOST), "octets go out as they are");
        }
    }

    struct NoDisk;

    impl Disk for NoDisk {
        fn commit(&mut self, _: Batch) {}
        fn read(&mut self, _: Read) {}
        fn resume(&mut self) {}
    }

    /// A line with so many octets of noise in it, up to the brim, and the name of its near end.
    fn full_of_noise() -> ([OwnedFd; 2], String, u64) {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        // What is written is lost when nobody has the near end open.
        let slave = std::fs::OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let mut settings = tcgetattr(&slave).unwrap();
        cfmakeraw(&mut settings);
        tcsetattr(&slave, SetArg::TCSANOW, &settings).unwrap();
        let mut octets = 0;
        while let Ok(written) = nix::unistd::write(&master, &[7; 512]) {
            octets += written as u64;
        }
        ([master.into(), slave.into()], name, octets)
    }

    /// What the engine was given so far; all of it is one endless frame.
    fn octets_taken(driver: &Driver) -> u64 {
        driver.core().engine.status().links[0].framing.map_or(0, |framing| framing.noise_bytes)
    }

    #[test]
    fn a_line_full_of_noise_is_read_by_its_share_and_all_others_are_looked_at_in_between() {
        let (_ends, device, octets) = full_of_noise();
        let text = format!("[[link]]\nname = 'wire'\nkind = 'serial'\ndevice = '{device}'\nframing = 'slip'\n");
        let config = Config::parse(&text).unwrap().resolve("box").unwrap();
        let LinkKind::Serial(options) = config.link[0].kind.clone() else { panic!("{:?}", config.link) };
        let clock = Clock::start();
        let start = Start { config: &config, recovered: Recovered::default(), seed: 1 };
        let driver = Driver::new(Engine::new(clock.now(), start).unwrap(), clock, Box::new(NoDisk));
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        let turns = runtime.block_on(async {
            let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            other.connect(other.local_addr().unwrap()).await.unwrap();
            tokio::task::spawn_local(serve_serial(Rc::clone(&driver), LinkId(0), options));
            let (mut before, mut turns) = (0, 0);
            while before < octets {
                // It is there at once, and is noticed when sockets are looked at.
                other.send(&[0]).await.unwrap();
                other.readable().await.unwrap();
                while other.try_recv(&mut [0]).is_ok() {}
                let taken = octets_taken(&driver);
                assert!(taken - before <= READ_BYTES_PER_TURN as u64, "{} octets in one turn", taken - before);
                before = taken;
                turns += 1;
            }
            turns
        });
        assert!(turns >= octets / READ_BYTES_PER_TURN as u64, "{turns} turns for {octets} octets");
    }
}
