//! The story: everything starts, the link is cut, the gateway is killed, the link comes back, and the books are
//! compared.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::Failure;
use crate::cli::demo::cast;
use crate::cli::demo::child::Daemon;
use crate::cli::demo::ledger::Side;
use crate::cli::demo::link::Link;
use crate::cli::demo::radio::Socket;
use crate::cli::demo::screen::Screen;
use crate::cli::demo::site::Site;
use crate::cli::demo::world::{Pace, World};
use crate::time::Duration;

/// A daemon listens, or a message makes its way, within this time, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the last expected message: nothing more may come.
const SILENCE: Duration = Duration::from_millis(500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// All who take part.
pub(super) struct Story<'a> {
    site: &'a Site,
    screen: Screen,
    world: Rc<World>,
    cloud: Daemon,
    /// None while it is dead.
    gateway: Option<Daemon>,
    link: Link,
    serial: Socket,
    /// Sensors and publishers. They end when they are stopped and everything is acknowledged.
    publishers: JoinSet<()>,
    /// They never end by themselves.
    _subscribers: JoinSet<()>,
}

/// Tells the story.
///
/// Returns what went wrong in the books; empty if they balance.
pub(super) async fn tell(site: &Site, pace: Pace) -> Result<Vec<String>, Failure> {
    let mut story = Story::start(site, pace).await?;
    story.flow().await?;
    story.cut().await?;
    story.kill().await?;
    story.restore().await?;
    story.settle().await?;
    story.judge()
}

impl<'a> Story<'a> {
    async fn start(site: &'a Site, pace: Pace) -> Result<Self, Failure> {
        let outage = pace.outage + pace.dead + pace.outage_after;
        let mut screen = Screen::new(cast::rate_to_cloud() * outage.as_secs());
        let world = Rc::new(World::new(pace));
        introduce(&mut screen, site)?;
        screen
            .step("Everything starts.", &["Certificates were made for this run; each side checks the other's."])?;

        let mut cloud = Daemon::start("cloud", &site.path("cloud.toml"), &site.path("cloud.log"))?;
        listening(&mut cloud, &[site.cloud(), site.cloud_tls()]).await?;
        screen.event(&format!("the cloud listens (process {})", cloud.pid()))?;
        let mut subscribers = JoinSet::new();
        subscribers.spawn_local(cast::watcher(site, &world).run());
        let link = Link::open(site.link_port(), site.cloud_tls());
        let link = link.await.map_err(|error| Failure::Failed(format!("cannot open the link: {error}")))?;

        let (mut serial, line) = Socket::new(site.serial());
        serial.plug().await.map_err(no_serial)?;
        let mut gateway = Daemon::start("gateway", &site.path("gateway.toml"), &site.path("gateway.log"))?;
        listening(&mut gateway, &[site.gateway()]).await?;
        screen.event(&format!("the gateway listens (process {})", gateway.pid()))?;
        subscribers.spawn_local(cast::heating(site, &world).run());

        let (gateway, publishers) = (Some(gateway), JoinSet::new());
        let mut story =
            Self { site, screen, world, cloud, gateway, link, serial, publishers, _subscribers: subscribers };
        story.until("the subscribers to be in place", |world| world.subscribed.get() == 2).await?;
        spawn_local(cast::greet(site.cloud(), Rc::clone(&story.world)));
        story.until("the gateway to connect to the cloud", |world| world.greeted.get()).await?;
        story.screen.event("the gateway is connected to the cloud over TLS")?;
        let sensors = cast::sensors(site, &story.world, line).await;
        let sensors = sensors.map_err(|error| Failure::Failed(format!("no UDP socket for a sensor: {error}")))?;
        for sensor in sensors {
            story.publishers.spawn_local(sensor.run());
        }
        for publisher in cast::publishers(site, &story.world) {
            story.publishers.spawn_local(publisher.run());
        }
        Ok(story)
    }

    async fn flow(&mut self) -> Result<(), Failure> {
        let why = [
            "Four sensors talk MQTT-SN to the gateway, three over UDP and one over a serial line; a meter and an",
            "alarm talk MQTT. The gateway renames the topics and passes all on to the cloud. An operator in the",
            "cloud sends commands the other way. Each message is acknowledged to its sender, and has a number.",
        ];
        self.screen.step("Traffic flows.", &why)?;
        self.watch(self.world.pace.calm).await?;
        self.until("a message on every way", |world| world.ledger.borrow().all_flowing()).await
    }

    async fn cut(&mut self) -> Result<(), Failure> {
        let why = [
            "Sensors notice nothing: the gateway still acknowledges what they send, because it is safe on disk.",
            "What waits there grows.",
        ];
        self.link.cut();
        self.screen.step("The link to the cloud is cut.", &why)?;
        self.watch(self.world.pace.outage).await
    }

    async fn kill(&mut self) -> Result<(), Failure> {
        // What was acknowledged before this moment must not be lost.
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill()?;
        }
        let waiting = self.world.ledger.borrow().waiting(Side::Gateway);
        let why = [
            &*format!(
                "{waiting} messages were acknowledged and are not in the cloud. Nobody else has them any more:"
            ),
            "whatever was only in the gateway's memory is gone now. Senders repeat what was not acknowledged.",
        ];
        self.screen.step("The gateway is killed (SIGKILL), in the middle of the outage.", &why)?;
        self.watch(self.world.pace.dead).await?;
        let (config, log) = (self.site.path("gateway.toml"), self.site.path("gateway.log"));
        self.serial.plug().await.map_err(no_serial)?;
        let started = Instant::now();
        let mut gateway = Daemon::start("gateway", &config, &log)?;
        listening(&mut gateway, &[self.site.gateway()]).await?;
        let (pid, millis) = (gateway.pid(), started.elapsed().as_millis());
        self.gateway = Some(gateway);
        self.screen
            .event(&format!("the gateway was started again, and listens after {millis} ms (process {pid})"))?;
        self.watch(self.world.pace.outage_after).await
    }

    async fn restore(&mut self) -> Result<(), Failure> {
        let why = [
            "The gateway finds the cloud by itself and hands over what waited, the oldest first, alarms before all",
            "else, while new messages keep coming.",
        ];
        self.link.restore();
        self.screen.step("The link is restored.", &why)?;
        self.watch(self.world.pace.drain).await
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.screen.step("Senders stop, and the last messages arrive.", &[])?;
        self.world.stopping.set(true);
        let deadline = Instant::now() + PATIENCE;
        let mut look = ticks(LOOK);
        // What is still missing at the end of our patience is for the judge.
        while Instant::now() < deadline && !self.is_settled() {
            look.tick().await;
            self.look()?;
        }
        self.watch(SILENCE).await
    }

    fn is_settled(&mut self) -> bool {
        while self.publishers.try_join_next().is_some() {}
        self.publishers.is_empty() && self.world.ledger.borrow().total().missing == 0
    }

    fn judge(&mut self) -> Result<Vec<String>, Failure> {
        self.screen.step("The ledger: what senders sent, and what came out at the other end.", &[])?;
        let ledger = self.world.ledger.borrow();
        self.screen.ledger(&ledger)?;
        let mut faults = ledger.faults();
        faults.append(&mut self.world.faults.borrow_mut());
        if faults.is_empty() {
            self.screen.verdict(true, "GOOD: nothing that was acknowledged was lost, and order held.")?;
        } else {
            self.screen.verdict(false, &format!("BAD: {}.", faults.join("; ")))?;
        }
        Ok(faults)
    }

    /// Lets time pass and tells how it goes.
    async fn watch(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        let (mut look, mut sample) = (ticks(LOOK), ticks(self.world.pace.sample));
        // The first tick is at once.
        sample.tick().await;
        while Instant::now() < end {
            tokio::select! {
                _ = look.tick() => self.look()?,
                _ = sample.tick() => self.screen.sample(&self.world.ledger.borrow())?,
            }
        }
        Ok(())
    }

    /// Waits for something that is bound to happen.
    async fn until(&mut self, what: &str, happened: impl Fn(&World) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut look = ticks(LOOK);
        while !happened(&self.world) {
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!("waited for {what} for {} s", PATIENCE.as_secs())));
            }
            look.tick().await;
            self.look()?;
        }
        Ok(())
    }

    /// The daemons are alive, and the screen shows how it goes.
    fn look(&mut self) -> Result<(), Failure> {
        self.cloud.check()?;
        if let Some(gateway) = &mut self.gateway {
            gateway.check()?;
        }
        self.screen.status(&self.world.ledger.borrow())
    }
}

fn introduce(screen: &mut Screen, site: &Site) -> Result<(), Failure> {
    screen.print(&format!(
        "moteway demo: a gateway, a cloud and everything around them, on this machine, in half a minute.

  4 sensors --MQTT-SN--> +---------+                    +-------+
  meter -------MQTT----> | gateway | ====TLS link=====> | cloud | --> watcher
  alarm -------MQTT----> |         |                    |       |
  heating <----MQTT----- +---------+ <================= +-------+ <-- operator

Gateway and cloud are two instances of this program. Nothing is installed; their files are in
{}.
",
        site.dir().display()
    ))
}

/// Waits until a daemon accepts connections on all these addresses.
async fn listening(daemon: &mut Daemon, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut look = ticks(Duration::from_millis(5));
    for address in addresses {
        while TcpStream::connect(address).await.is_err() {
            daemon.check()?;
            if Instant::now() > deadline {
                return Err(Failure::Failed(format!(
                    "nothing listens on {address} after {} s",
                    PATIENCE.as_secs()
                )));
            }
            look.tick().await;
        }
    }
    daemon.check()
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn no_serial(error: std::io::Error) -> Failure {
    Failure::Failed(format!("no pseudo-terminal for the serial line: {error}"))
}
