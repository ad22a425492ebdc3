//! Who takes part besides the daemons: sensors, publishers and subscribers, and the rules they are entered under.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::net::UdpSocket;

use crate::cli::demo::ledger::{Rule, Side};
use crate::cli::demo::publisher::{self, Publisher};
use crate::cli::demo::radio::{Line, Radio};
use crate::cli::demo::sensor::Sensor;
use crate::cli::demo::site::{GATEWAY, Site};
use crate::cli::demo::subscriber::Subscriber;
use crate::cli::demo::world::World;
use crate::mqtt::QoS;
use crate::time::Duration;

/// Room and name of the sensors on UDP.
const SENSORS: [(&str, &str); 3] = [("hall", "co2"), ("roof", "wind"), ("cellar", "water")];
/// And of the one on the serial line.
const SERIAL_SENSOR: (&str, &str) = ("garden", "soil");
/// Between two readings of one sensor.
const SENSOR_EVERY: Duration = Duration::from_millis(50);

/// Messages per second.
const METER_RATE: u32 = 40;
const ALARM_RATE: u32 = 10;
const COMMAND_RATE: u32 = 5;

/// Messages per second that the gateway keeps while the link is down.
pub(super) fn rate_to_cloud() -> u64 {
    let sensors = SENSORS.len() as u64 + 1;
    sensors * 1000 / u64::try_from(SENSOR_EVERY.as_millis()).unwrap_or(1) + u64::from(METER_RATE + ALARM_RATE)
}

/// Where the probe comes out that says that the way from the cloud is open.
const GREETING: &str = "command/hello";

/// A topic of the gateway as the cloud knows it.
fn fleet(topic: &str) -> String {
    format!("fleet/{GATEWAY}/{topic}")
}

/// In the cloud, it receives all that comes from the gateway.
pub(super) fn watcher(site: &Site, world: &Rc<World>) -> Subscriber {
    subscriber("watcher", site.cloud(), ["site/#", "meter/#", "alarm/#"].map(fleet).to_vec(), world)
}

/// At the gateway, it receives commands.
pub(super) fn heating(site: &Site, world: &Rc<World>) -> Subscriber {
    subscriber("heating", site.gateway(), vec!["command/#".to_owned()], world)
}

fn subscriber(client_id: &'static str, broker: SocketAddr, filters: Vec<String>, world: &Rc<World>) -> Subscriber {
    let (world, received) = (Rc::clone(world), BTreeSet::new());
    Subscriber { client_id, broker, filters, greeting: GREETING, world, received }
}

/// Calls from the cloud until the heating hears it.
pub(super) async fn greet(cloud: SocketAddr, world: Rc<World>) {
    // If it fails, nobody is greeted, and the story says what it waited for.
    publisher::greet(cloud, fleet(GREETING), world).await.ok();
}

/// The sensors, and their page in the ledger.
pub(super) async fn sensors(site: &Site, world: &Rc<World>, line: Line) -> io::Result<Vec<Sensor>> {
    let (held_by, qos) = (Side::Gateway, QoS::AtLeastOnce);
    let rule = Rule { name: "telemetry", way: "sensors -> cloud", held_by, qos };
    let rule = world.ledger.borrow_mut().add_rule(rule);
    let sensor = |(room, name): (&str, &str), radio| {
        let topic = format!("site/{room}/{name}/value");
        let flow = world.ledger.borrow_mut().add_flow(rule, fleet(&topic));
        let (client_id, every, world) = (format!("{room}-{name}"), SENSOR_EVERY, Rc::clone(world));
        Sensor { client_id, topic, flow, every, radio, world, in_hand: None, last_id: 0 }
    };
    let mut sensors = Vec::new();
    for name in SENSORS {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(site.radio()).await?;
        sensors.push(sensor(name, Radio::Udp(socket)));
    }
    sensors.push(sensor(SERIAL_SENSOR, Radio::Serial(Box::new(line))));
    Ok(sensors)
}

/// The MQTT publishers, and their pages in the ledger.
pub(super) fn publishers(site: &Site, world: &Rc<World>) -> [Publisher; 3] {
    let meter = Rule { name: "meter", way: "meter -> cloud", held_by: Side::Gateway, qos: QoS::AtLeastOnce };
    let alarms = Rule { name: "alarms", way: "alarm -> cloud", held_by: Side::Gateway, qos: QoS::ExactlyOnce };
    let commands =
        Rule { name: "commands", way: "operator -> heating", held_by: Side::Cloud, qos: QoS::AtLeastOnce };
    let publisher = |rule: Rule, topic: &str, rate| {
        // Commands go the other way.
        let (here, there) = (topic.to_owned(), fleet(topic));
        let (broker, topic, arrives) = match rule.held_by {
            Side::Gateway => (site.gateway(), here, there),
            Side::Cloud => (site.cloud(), there, here),
        };
        let flow = {
            let mut ledger = world.ledger.borrow_mut();
            let page = ledger.add_rule(rule);
            ledger.add_flow(page, arrives)
        };
        let (client_id, qos, every) = (rule.name, rule.qos, Duration::from_secs(1) / rate);
        let (world, inflight) = (Rc::clone(world), VecDeque::new());
        Publisher { client_id, broker, topic, qos, flow, every, world, inflight, last_pkid: 0 }
    };
    [
        publisher(meter, "meter/power", METER_RATE),
        publisher(alarms, "alarm/door", ALARM_RATE),
        publisher(commands, "command/heat", COMMAND_RATE),
    ]
}
