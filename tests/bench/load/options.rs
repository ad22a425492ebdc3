//! Command line options: the same set for every mode, each with a default.

use crate::radio;
use crate::transport::{self, Broker};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub(crate) const HELP: &str = "\
usage: mqtt-load MODE [--option value]...

  --broker ADDR:PORT   where the broker listens              [127.0.0.1:1883]
  --tls FILE           over TLS, with this CA
  --broker-pid PID     report this process's CPU time, taken around the load alone
  --qos 0|1            of publications and subscriptions     [0]
  --payload BYTES      at least 16                           [64]
  --stall SECONDS      give up when nothing arrives so long  [10]
flow:
  --publishers P  --subscribers S                            [20, 1]
  --pairs 0|1          1: publisher i reaches subscriber i only (P = S)
  --messages N         published in all                      [1000000]
  --window W           in flight per publisher: QoS 0 until every subscriber
                       has it, QoS 1 until PUBACK            [100]
  --backlog B          QoS 1: published and not yet received, per publisher [4 x W]
  --rest MICROSECONDS  pause while the broker has work, so that arrivals gather [100]
backlog:
  --publishers P  --messages N  --window W                   as above, QoS 1
latency:
  --clients C  --rate MESSAGES_PER_SECOND  --seconds N       [1000, 5000, 10]
connects:
  --clients C          connections in all                    [1000]
  --parallel K         handshakes at a time                  [50]
radio:
  --radio ADDR:PORT    where nodes find the gateway          [127.0.0.1:1883]
  --clients C  --messages N  --window W                      as above
  --paced 0|1          1: --rate for --seconds, not --messages by --window
  --hold 0|1           1: stay connected until stdin closes
  --together 0|1       1: what a node may send at once goes to the system as one,
                       which costs the generator half as much
idle:
  --clients C                                                [1000]
forward:
  --broker ADDR:PORT   where to listen, in the broker's place
certificate:
  --dir DIRECTORY      where cert.pem and key.pem go         [.]";

/// Smallest payload: it carries the publisher, its sequence number and the time of sending.
pub(crate) const MIN_PAYLOAD: usize = 16;
/// Packet identifiers are 16 bits: a window larger than this would use one twice.
const MAX_WINDOW: u32 = 60_000;

pub(crate) struct Options {
    pub(crate) broker: Broker,
    pub(crate) broker_pid: Option<i32>,
    pub(crate) qos: u8,
    pub(crate) payload: usize,
    pub(crate) stall_after_seconds: u64,
    pub(crate) publishers: u32,
    pub(crate) subscribers: u32,
    pub(crate) pairs: bool,
    pub(crate) messages: u32,
    pub(crate) window: u32,
    pub(crate) backlog: u32,
    pub(crate) rest_us: u64,
    pub(crate) clients: u32,
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
    pub(crate) parallel: u32,
    pub(crate) radio: SocketAddr,
    pub(crate) paced: bool,
    pub(crate) hold: bool,
    pub(crate) together: bool,
    pub(crate) dir: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            broker: Broker { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)), tls: None },
            broker_pid: None,
            qos: 0,
            payload: 64,
            stall_after_seconds: 10,
            publishers: 20,
            subscribers: 1,
            pairs: false,
            messages: 1_000_000,
            window: 100,
            backlog: 0,
            rest_us: 100,
            clients: 1_000,
            rate: 5_000,
            seconds: 10,
            parallel: 50,
            radio: radio::default_address(),
            paced: false,
            hold: false,
            together: false,
            dir: PathBuf::from("."),
        }
    }
}

impl Options {
    /// Reads `--name value` pairs; the error is a sentence for the user.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            options.set(&name, &value)?;
        }
        if options.backlog == 0 {
            options.backlog = options.window * 4;
        }
        options.check()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
            value.parse().map_err(|_| format!("{name}: {value:?} is not valid here"))
        }
        match name {
            "--broker" => self.broker.address = number(name, value)?,
            "--tls" => {
                let config = transport::client_config(Path::new(value));
                self.broker.tls = Some(config.map_err(|error| format!("--tls {value}: {error}"))?);
            }
            "--radio" => self.radio = number(name, value)?,
            "--paced" => self.paced = number::<u8>(name, value)? == 1,
            "--hold" => self.hold = number::<u8>(name, value)? == 1,
            "--together" => self.together = number::<u8>(name, value)? == 1,
            "--dir" => self.dir = PathBuf::from(value),
            "--broker-pid" => self.broker_pid = Some(number(name, value)?),
            "--qos" => self.qos = number(name, value)?,
            "--payload" => self.payload = number(name, value)?,
            "--stall" => self.stall_after_seconds = number(name, value)?,
            "--publishers" => self.publishers = number(name, value)?,
            "--subscribers" => self.subscribers = number(name, value)?,
            "--pairs" => self.pairs = number::<u8>(name, value)? == 1,
            "--messages" => self.messages = number(name, value)?,
            "--window" => self.window = number(name, value)?,
            "--backlog" => self.backlog = number(name, value)?,
            "--rest" => self.rest_us = number(name, value)?,
            "--clients" => self.clients = number(name, value)?,
            "--rate" => self.rate = number(name, value)?,
            "--seconds" => self.seconds = number(name, value)?,
            "--parallel" => self.parallel = number(name, value)?,
            _ => return Err(format!("unknown option {name}")),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let counts = [self.publishers, self.subscribers, self.messages, self.window, self.clients, self.rate];
        if counts.contains(&0) || self.seconds == 0 || self.parallel == 0 {
            return Err("counts, rates and windows start at 1".into());
        }
        if self.qos > 1 {
            return Err("--qos is 0 or 1".into());
        }
        if !(MIN_PAYLOAD..=1 << 20).contains(&self.payload) {
            return Err(format!("--payload is {MIN_PAYLOAD} bytes to 1 MiB"));
        }
        if self.window > MAX_WINDOW || self.backlog < self.window || self.backlog > 1 << 20 {
            return Err(format!("--window is at most {MAX_WINDOW}, --backlog at least the window"));
        }
        if self.pairs && self.publishers != self.subscribers {
            return Err("--pairs needs as many subscribers as publishers".into());
        }
        Ok(())
    }
}
