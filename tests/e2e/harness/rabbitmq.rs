//! Three nodes of RabbitMQ with its MQTT plug-in on this machine: the cloud that is a cluster.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::free_port;
use crate::harness::process::Process;

/// As Debian installs it; the script in `/usr/sbin` would change the user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const NODES: usize = 3;
/// As Linux has them on the machines where this cluster runs.
const PAGE_BYTES: u64 = 4096;
const TICKS_PER_SECOND: f64 = 100.0;
/// Three virtual machines start at once.
const START_BOUND: Duration = Duration::from_secs(240);

/// A cluster whose nodes can be stopped one by one.
pub(crate) struct Cluster {
    dir: TempDir,
    /// Names of the nodes are this machine's business only, and end with this.
    mark: u32,
    /// The port mapper of Erlang, which all nodes of the cluster ask.
    epmd: Option<Process>,
    epmd_port: u16,
    dist_ports: Vec<u16>,
    mqtt_ports: Vec<u16>,
    nodes: Vec<Option<Process>>,
}

/// What all nodes together have and have used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) rss: u64,
    /// Of those that run now.
    pub(crate) cpu_secs: f64,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let ports = || (0..NODES).map(|_| free_port()).collect::<Vec<_>>();
        let epmd_port = free_port();
        let mut command = Command::new("epmd");
        command.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let mut cluster = Self {
            dir: TempDir::new().unwrap(),
            mark: fastrand::u32(..1_000_000),
            epmd: Some(Process::start("epmd", &mut command)),
            epmd_port,
            dist_ports: ports(),
            mqtt_ports: ports(),
            nodes: (0..NODES).map(|_| None).collect(),
        };
        cluster.start_all();
        cluster
    }

    /// Starts all nodes that do not run, and waits for them.
    pub(crate) fn start_all(&mut self) {
        for node in 0..NODES {
            if self.nodes[node].is_none() {
                self.nodes[node] = Some(self.launch(node));
            }
        }
        for node in self.nodes.iter_mut().flatten() {
            node.line_within(START_BOUND, "that it is up", |line| {
                line.contains("Server startup complete").then_some(())
            });
        }
    }

    /// Starts all nodes again after all of them had died at once.
    ///
    /// The MQTT plug-in of 3.10 knows by a Raft group who is connected where. A node asks those that are up for the
    /// leader before it votes itself; they have none without it, so all wait for 100 s. Nobody is connected now, so
    /// what that group knows is void: without it there is nothing to wait for. Messages and sessions are elsewhere.
    pub(crate) fn restart_all(&mut self) {
        for node in 0..NODES {
            let group = self.base(node).join("mnesia").join(self.name(node)).join("coordination");
            std::fs::remove_dir_all(group).unwrap();
        }
        self.start_all();
    }

    fn base(&self, node: usize) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn name(&self, node: usize) -> String {
        format!("moteway{node}-{}@localhost", self.mark)
    }

    fn launch(&self, node: usize) -> Process {
        let base = self.base(node);
        if !base.exists() {
            self.prepare(node, &base);
        }
        let mut command = Command::new(SERVER);
        command
            .env("HOME", base.join("home"))
            .env("LANG", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_NODENAME", self.name(node))
            .env("RABBITMQ_DIST_PORT", self.dist_ports[node].to_string())
            .env("RABBITMQ_MNESIA_BASE", base.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", base.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", base.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", base.join("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +A 16 +sbwt none");
        Process::start(&self.name(node), command.process_group(0))
    }

    fn prepare(&self, node: usize, base: &Path) {
        let home = base.join("home");
        std::fs::create_dir_all(&home).unwrap();
        let cookie = home.join(".erlang.cookie");
        std::fs::write(&cookie, format!("MOTEWAY{}", self.mark)).unwrap();
        std::fs::set_permissions(&cookie, std::fs::Permissions::from_mode(0o400)).unwrap();
        std::fs::write(base.join("plugins"), "[rabbitmq_mqtt].\n").unwrap();
        let mut text = format!(
            "listeners.tcp = none\nmqtt.listeners.tcp.default = 127.0.0.1:{}\nmqtt.allow_anonymous = true\n\
             mqtt.durable_queue_type = quorum\nlog.console = true\nlog.file = false\nlog.console.level = info\n\
             cluster_formation.peer_discovery_backend = classic_config\n",
            self.mqtt_ports[node]
        );
        for other in 0..NODES {
            let name = self.name(other);
            text.push_str(&format!("cluster_formation.classic_config.nodes.{} = {name}\n", other + 1));
        }
        std::fs::write(base.join("rabbitmq.conf"), text).unwrap();
    }

    /// Ends a node as a power cut does.
    pub(crate) fn kill(&mut self, node: usize) {
        let mut process = self.nodes[node].take().expect("it runs");
        // The script that was started has what counts as its child.
        killpg(Pid::from_raw(i32::try_from(process.pid()).unwrap()), Signal::SIGKILL).unwrap();
        process.wait();
    }

    pub(crate) fn usage(&self) -> Usage {
        let groups: Vec<u32> = self.nodes.iter().flatten().map(Process::pid).collect();
        let (mut pages, mut ticks) = (0, 0);
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            // A process may end meanwhile, and most entries are none.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
            // proc(5): field 5 is the process group, 14 and 15 the CPU time, 24 the resident pages.
            let field =
                |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
            if groups.iter().any(|group| u64::from(*group) == field(5)) {
                pages += field(24);
                ticks += field(14) + field(15);
            }
        }
        Usage { rss: pages * PAGE_BYTES, cpu_secs: ticks as f64 / TICKS_PER_SECOND }
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.mqtt_ports[node]))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..NODES {
            if self.nodes[node].is_some() {
                self.kill(node);
            }
        }
        drop(self.epmd.take());
    }
}
