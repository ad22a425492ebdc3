//! Where the demo happens: a directory that vanishes, free ports, certificates and the two configurations.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::demo::certs::{CLOUD_NAME, Certs};

/// What `{gateway}` stands for.
pub(super) const GATEWAY: &str = "demo";

/// Below the ports that Linux gives to outgoing connections. Elsewhere a client that dials while the gateway is dead
/// could be given the gateway's own port, meet itself there, and keep the gateway from coming back.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

/// Everything that lies on the disk, and where everyone listens.
#[derive(Debug)]
pub(super) struct Site {
    dir: PathBuf,
    /// Whether the directory stays when this value goes.
    keep: bool,
    ports: Ports,
}

#[derive(Debug)]
struct Ports {
    cloud: u16,
    cloud_tls: u16,
    link: u16,
    gateway: u16,
    radio: u16,
}

impl Site {
    /// Makes the directory and all that is in it before the start.
    pub(super) fn build(keep: bool) -> Result<Self, Failure> {
        let dir = make_dir().map_err(|error| Failure::Failed(format!("no directory for the demo: {error}")))?;
        // From here on the directory is removed when something fails.
        let mut site = Self { dir, keep, ports: Ports::find()? };
        let certs = Certs::make(&site.dir)?;
        site.write("cloud.toml", &site.cloud_toml(&certs)?)?;
        site.write("gateway.toml", &site.gateway_toml(&certs)?)?;
        site.keep = keep;
        Ok(site)
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory stays.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether the directory stays.
    pub(super) fn is_kept(&self) -> bool {
        self.keep
    }

    /// A file in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The cloud's plain listener: only for the watcher and the operator, who are in the cloud.
    pub(super) fn cloud(&self) -> SocketAddr {
        loopback(self.ports.cloud)
    }

    /// The cloud's TLS listener.
    pub(super) fn cloud_tls(&self) -> SocketAddr {
        loopback(self.ports.cloud_tls)
    }

    /// What the gateway takes for the cloud: the near end of the link.
    pub(super) fn link_port(&self) -> u16 {
        self.ports.link
    }

    /// The gateway's MQTT listener.
    pub(super) fn gateway(&self) -> SocketAddr {
        loopback(self.ports.gateway)
    }

    /// The gateway's MQTT-SN port.
    pub(super) fn radio(&self) -> SocketAddr {
        loopback(self.ports.radio)
    }

    /// The gateway's serial port: a stable name for a device that is a new one each time it is plugged in.
    pub(super) fn serial(&self) -> PathBuf {
        self.path("serial-port")
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
    }

    fn cloud_toml(&self, certs: &Certs) -> Result<String, Failure> {
        let state = self.path("cloud");
        let mut text = format!("[gateway]\nname = \"cloud\"\nstate_dir = {}\n\n", quoted(&state)?);
        text.push_str("[log]\nformat = \"plain\"\n\n[admin]\nsocket = \"\"\nhttp = \"\"\n\n");
        let Pair { cert, key, ca } = Pair::of(&certs.cloud.cert, &certs.cloud.key, &certs.ca)?;
        // Infallible: it writes to a string.
        write!(
            text,
            r#"[[listener]]
name = "internet"
bind = "{}"
tls = {{ cert = {cert}, key = {key}, client_ca = {ca} }}

[[listener]]
name = "inside"
bind = "{}"
"#,
            self.cloud_tls(),
            self.cloud()
        )
        .ok();
        Ok(text)
    }

    fn gateway_toml(&self, certs: &Certs) -> Result<String, Failure> {
        let Pair { cert, key, ca } = Pair::of(&certs.gateway.cert, &certs.gateway.key, &certs.ca)?;
        Ok(format!(
            r#"[gateway]
name = "{GATEWAY}"
state_dir = {state}

[log]
format = "plain"

[admin]
socket = ""
http = ""

[store]
max_bytes = "4GiB"

[[listener]]
name = "local"
bind = "{local}"

[[link]]
name = "udp"
kind = "udp"
bind = "{radio}"

[[link]]
name = "serial"
kind = "serial"
device = {serial}
framing = "length"

[[upstream]]
name = "cloud"
url = ["mqtts://127.0.0.1:{link}"]
client_id = "{{gateway}}"
tls = {{ ca = {ca}, cert = {cert}, key = {key}, server_name = "{CLOUD_NAME}" }}
keepalive = "10s"
reconnect_min = "200ms"
reconnect_max = "1s"

[[upstream.rule]]
name = "telemetry"
direction = "out"
filter = "site/{{room}}/{{sensor}}/{{rest#}}"
remap = "fleet/{{gateway}}/site/{{room}}/{{sensor}}/{{rest}}"

[[upstream.rule]]
name = "meter"
direction = "out"
filter = "meter/{{rest#}}"
remap = "fleet/{{gateway}}/meter/{{rest}}"

[[upstream.rule]]
name = "alarms"
direction = "out"
filter = "alarm/{{rest#}}"
remap = "fleet/{{gateway}}/alarm/{{rest}}"
qos = 2
priority = 9

[[upstream.rule]]
name = "commands"
direction = "in"
filter = "fleet/{{gateway}}/command/{{rest#}}"
remap = "command/{{rest}}"
"#,
            state = quoted(&self.path("gateway"))?,
            local = self.gateway(),
            radio = self.radio(),
            serial = quoted(&self.serial())?,
            link = self.ports.link,
        ))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !self.keep {
            // The system empties its directory for temporary files some day.
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}

impl Ports {
    /// Five free ports. Others may take them before we do; then a daemon says so and ends.
    fn find() -> Result<Self, Failure> {
        // Demos that run side by side begin at different places.
        let room = u32::from(PORTS.end - PORTS.start);
        let first = u16::try_from(std::process::id() * 8 % room).unwrap_or_default();
        let mut free =
            (PORTS.start + first..PORTS.end).chain(PORTS.start..PORTS.start + first).filter(|port| is_free(*port));
        let mut next = || free.next().ok_or_else(|| Failure::Failed("no free port on the loopback".to_owned()));
        Ok(Self { cloud: next()?, cloud_tls: next()?, link: next()?, gateway: next()?, radio: next()? })
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok() && UdpSocket::bind(loopback(port)).is_ok()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A directory that is new and nobody else's: it will hold private keys.
fn make_dir() -> io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let mut name = format!("moteway-demo-{}", std::process::id());
    loop {
        let dir = base.join(&name);
        match DirBuilder::new().mode(0o700).create(&dir) {
            // A demo that failed under the same process id left its own behind.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && name.len() < 64 => name.push('x'),
            result => return result.map(|()| dir),
        }
    }
}

/// Three paths as TOML strings.
struct Pair {
    cert: String,
    key: String,
    ca: String,
}

impl Pair {
    fn of(cert: &Path, key: &Path, ca: &Path) -> Result<Self, Failure> {
        Ok(Self { cert: quoted(cert)?, key: quoted(key)?, ca: quoted(ca)? })
    }
}

/// A path as a TOML string.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.chars().any(|c| c.is_control() || c == '\''));
    let text = text.ok_or_else(|| Failure::Failed(format!("cannot use {} in a configuration", path.display())))?;
    Ok(format!("'{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;

    use crate::cli::load;

    #[test]
    fn both_configurations_are_good_and_private_and_leave_with_their_directory() {
        let site = Site::build(false).unwrap();
        let dir = site.dir().to_owned();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        for (file, listeners, links, rules) in [("cloud.toml", 2, 0, 0), ("gateway.toml", 1, 2, 4)] {
            let loaded = load(&site.path(file)).map_err(|failure| failure.to_string()).unwrap();
            assert_eq!(loaded.warnings.to_string(), "", "{file}");
            assert_eq!((loaded.config.listener.len(), loaded.config.link.len()), (listeners, links));
            assert_eq!(loaded.config.upstream.iter().map(|one| one.rule.len()).sum::<usize>(), rules);
        }
        drop(site);
        assert!(!dir.exists());
    }
}
