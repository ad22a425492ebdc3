//! The status page in a real browser.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use moteway::mqtt::QoS;
use serde_json::Value;

use crate::harness::client::v5;
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::process::Process;
use crate::harness::sensor::Radio;

struct Browser {
    process: Process,
    answers: usize,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(at: SocketAddr) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/clients/browser.cjs");
        let mut command = Command::new("node");
        command.arg(script).arg("chromium").arg(profile.path()).arg(format!("http://{at}/"));
        Self { process: Process::start("browser", &mut command), answers: 0, _profile: profile }
    }

    #[track_caller]
    fn tell(&mut self, command: &str) -> Value {
        self.process.tell(command);
        self.answers += 1;
        let number = self.answers;
        let is_it = |answer: &Value| answer["number"] == number;
        let answer = self.process.line(command, |line| serde_json::from_str(line).ok().filter(is_it));
        assert!(answer.get("error").is_none(), "{command}: {answer}");
        answer["value"].clone()
    }

    /// The text of an element.
    #[track_caller]
    fn text(&mut self, id: &str) -> String {
        let value = self.tell(&format!("eval document.getElementById('{id}').innerText"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until this holds on the page.
    #[track_caller]
    fn until(&mut self, what: &str, script: &str) {
        assert_eq!(self.tell(&format!("wait Boolean({script})")), true, "{what}");
    }

    #[track_caller]
    fn wait(&mut self, id: &str, words: &str) {
        let script = format!("wait document.getElementById('{id}').innerText.includes({words:?})");
        let found = self.tell(&script) == true;
        assert!(found, "#{id} says {:?} and not {words:?}", self.text(id));
    }

    #[track_caller]
    fn shot(&mut self, name: &str, width: u32, scheme: &str) {
        let file = pictures().join(format!("{name}.png"));
        self.tell(&format!("shot {} {width} 900 {scheme}", file.display()));
        assert!(std::fs::metadata(&file).unwrap().len() > 10_000, "{}", file.display());
        // Nothing sticks out at the side.
        let wide = self.tell("eval document.documentElement.scrollWidth - innerWidth");
        assert_eq!(wide, 0, "{name} is too wide");
    }
}

/// Where the pictures go.
fn pictures() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The plot tells its values, and the token lets something be changed.
#[track_caller]
fn by_keyboard(page: &mut Browser, gateway: &Gateway) {
    page.tell("eval document.getElementById('plot').focus()");
    page.tell("press ArrowLeft");
    page.wait("readout", "cloud");
    assert_eq!(page.tell("eval document.getElementById('levels').hidden"), true, "read-only without the token");
    page.tell("eval document.getElementById('token').focus()");
    page.tell("type wrong-token-wrong-token");
    page.tell("press Enter");
    page.tell("eval document.getElementById('level').value = 'debug', document.getElementById('level').onchange()");
    page.wait("said", "token");
    page.tell("eval document.getElementById('token').focus()");
    page.tell("type a-token-of-some-length");
    page.tell("press Enter");
    page.wait("clients", "Send away");
    page.tell("eval document.getElementById('level').value = 'debug', document.getElementById('level').onchange()");
    page.wait("said", "at level debug");
    assert_eq!(gateway.ask(&["log-level"]).stdout, b"debug\n");
}

/// A gateway with a token, a radio and a cloud.
fn start(radio: &Radio, mosquitto: &Mosquitto) -> Gateway {
    let mut gateway = Gateway::prepare_admin(
        "barn-7",
        "token_file = \"TOKEN\"\n",
        &format!(
            "{}[[upstream]]\nname = \"cloud\"\nurl = \"mqtt://{}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
             [[upstream.rule]]\nname = \"data\"\nfilter = \"data/#\"\n\
             [[upstream.rule]]\nname = \"few\"\nfilter = \"few/#\"\nlimit = {{ messages = 10 }}\n",
            radio.link,
            mosquitto.address()
        ),
    );
    let token = gateway.dir().join("token");
    std::fs::write(&token, "a-token-of-some-length").unwrap();
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), config.replace("TOKEN", token.to_str().unwrap())).unwrap();
    gateway.start_again();
    gateway
}

#[test]
fn the_page_lives_in_a_real_browser_through_an_outage() {
    let mut mosquitto = Mosquitto::start();
    let radio = Radio::udp();
    let mut gateway = start(&radio, &mosquitto);

    let mut node = radio.sensor();
    node.connect("sleepy node", false, 60);
    node.sleep(600);
    let mut publisher = gateway.client(&v5("<b>publisher</b>"));
    publisher.publish("data/a", "x", QoS::AtLeastOnce);
    let mut page = Browser::open(gateway.http());
    page.wait("state", "is well");
    page.wait("links", "up for");
    page.wait("clients", "asleep");
    // What clients call themselves is text.
    page.wait("clients", "<b>publisher</b>");
    page.wait("log", "upstream connected");
    page.shot("well-light", 1280, "light");

    // Values change while traffic flows.
    let before = page.text("f-in-all");
    for number in 0..50_u8 {
        publisher.publish("data/a", [number], QoS::AtLeastOnce);
    }
    page.until("it counts", &format!("document.getElementById('f-in-all').innerText !== {before:?}"));
    page.wait("f-in-all", "51 since the start");
    page.wait("f-out-all", "51 acknowledged");

    // An outage shows.
    mosquitto.stop();
    page.wait("state", "is not well");
    page.wait("problems", "upstream cloud is down");
    page.wait("links", "down for");
    for number in 0..40_u8 {
        publisher.publish("data/a", [number], QoS::AtLeastOnce);
        publisher.publish("few/a", [number], QoS::AtLeastOnce);
    }
    page.wait("f-waiting", "50");
    page.wait("lost", "drop-oldest");
    page.wait("queues", "100 %");
    let plotted = "document.querySelectorAll('#plot .trace, #plot .down').length >= 2";
    page.until("the plot has a line and a link that is down", plotted);
    page.shot("outage-light", 1280, "light");
    page.shot("outage-dark", 1280, "dark");
    page.shot("outage-phone", 390, "light");
    page.shot("outage-phone-dark", 390, "dark");

    by_keyboard(&mut page, &gateway);

    mosquitto.start_again();
    page.wait("state", "is well");
    page.wait("f-waiting", "0");

    let seen = page.tell("seen");
    let words = |key: &str| -> Vec<String> { serde_json::from_value(seen[key].clone()).unwrap() };
    let expected = |line: &String| line.contains("401");
    let console: Vec<String> = words("console").into_iter().filter(|line| !expected(line)).collect();
    assert!(console.is_empty() && words("exceptions").is_empty(), "{console:?} {:?}", words("exceptions"));
    let own = format!("http://{}/", gateway.http());
    let strange: Vec<String> =
        words("requests").into_iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(strange.is_empty() && words("requests").len() > 10, "{strange:?}");

    // It says so when the gateway is gone.
    gateway.terminate();
    page.wait("state", "does not answer");
    println!("{} answers, pictures in {}", page.answers, pictures().display());
}
