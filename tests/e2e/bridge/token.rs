//! The key of the client certificate in a PKCS#11 token, Debian's softhsm2 in the place of hardware.

use std::path::{Path, PathBuf};
use std::process::Command;

use moteway::mqtt::QoS;
use tempfile::TempDir;

use crate::bridge::{DATA, LinkState, local_traffic_flows, upstream};
use crate::harness::certs::Certs;
use crate::harness::client::v5;
use crate::harness::gateway::Gateway;
use crate::harness::mosquitto::Mosquitto;
use crate::harness::until;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "4711";

/// A CA for clients, and a token that holds the key of one of its certificates.
struct Token {
    dir: TempDir,
}

impl Token {
    /// The certificate, and its key still in a file: of this kind, as openssl calls it.
    fn new(algorithm: &[&str]) -> Self {
        let token = Self { dir: TempDir::new().unwrap() };
        std::fs::create_dir(token.path("tokens")).unwrap();
        let config = format!("directories.tokendir = {}\n", token.path("tokens").display());
        std::fs::write(token.path("softhsm2.conf"), config).unwrap();
        token.run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-noenc",
                "-subj",
                "/CN=Token CA",
                "-days",
                "9",
                "-keyout",
                "ca.key",
                "-out",
                "ca.pem",
            ],
        );
        token.run("openssl", &[&["genpkey", "-out", "box.key", "-algorithm"], algorithm].concat());
        token.run("openssl", &["req", "-new", "-key", "box.key", "-subj", "/CN=box", "-out", "box.csr"]);
        token.run(
            "openssl",
            &[
                "x509", "-req", "-in", "box.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "9", "-out",
                "box.pem",
            ],
        );
        token
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) {
        let mut command = Command::new(program);
        let output =
            command.args(args).current_dir(self.dir.path()).env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        let output = output.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The token is there from now on, and the key is nowhere else.
    fn plug_in(&self) {
        self.run("softhsm2-util", &["--init-token", "--free", "--label", "hsm", "--pin", PIN, "--so-pin", "0815"]);
        let import = ["--import", "box.key", "--token", "hsm", "--label", "box", "--id", "01", "--pin", PIN];
        self.run("softhsm2-util", &import);
        std::fs::remove_file(self.path("box.key")).unwrap();
    }

    fn set_pin(&self, pin: &str) {
        std::fs::write(self.path("pin"), format!("{pin}\n")).unwrap();
    }

    /// A cloud that trusts its certificate, and a gateway that bridges to it; neither is started.
    fn bridge(&self) -> (Mosquitto, Gateway) {
        let certs = Certs::new();
        let both = [certs.ca(), self.path("ca.pem")].map(|ca| std::fs::read_to_string(ca).unwrap()).concat();
        std::fs::write(certs.ca(), both).unwrap();
        let mosquitto = Mosquitto::start_tls(&certs);
        let tls = format!(
            "tls = {{ ca = {:?}, cert = {:?}, pkcs11 = {{ module = {MODULE:?}, token = \"hsm\", key = \"box\", \
             pin_file = {:?} }} }}",
            copy(&certs.ca(), &self.path("trusted.pem")),
            self.path("box.pem"),
            self.path("pin"),
        );
        let url = format!("mqtts://localhost:{}", mosquitto.tls_address().port());
        let mut gateway = Gateway::prepare("box", &upstream(&url, &tls, &[DATA]));
        gateway.set_env("SOFTHSM2_CONF", self.path("softhsm2.conf"));
        (mosquitto, gateway)
    }
}

fn copy(from: &Path, to: &Path) -> PathBuf {
    std::fs::copy(from, to).unwrap();
    to.to_owned()
}

#[test]
fn a_key_in_a_token_signs_for_the_bridge() {
    for algorithm in [
        &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
        &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    ] {
        let token = Token::new(algorithm);
        token.plug_in();
        token.set_pin(PIN);
        let (mosquitto, mut gateway) = token.bridge();
        gateway.start_again();
        let mut cloud = mosquitto.client(&v5("cloud"));
        cloud.subscribe("data/#", QoS::AtLeastOnce);
        gateway.client(&v5("device")).publish("data/t", "signed", QoS::AtLeastOnce);
        cloud.expect("data/t", "signed");
    }
}

#[test]
fn a_token_that_is_away_or_takes_no_pin_is_named_and_tried_again() {
    let token = Token::new(&["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    token.set_pin("wrong");
    let (mosquitto, mut gateway) = token.bridge();
    gateway.start_again();
    let says = |gateway: &mut Gateway, words: &str| {
        gateway.process().line(words, |line| (line.contains("cloud") && line.contains(words)).then_some(()));
    };
    says(&mut gateway, "it is not there, only");
    local_traffic_flows(&gateway);
    token.plug_in();
    says(&mut gateway, "it does not take the PIN in");
    says(&mut gateway, "which is not tried again before it is changed");
    let tries = || mosquitto.log().matches("New connection from").count();
    let before = tries();
    until("three more tries", || tries() >= before + 3);
    local_traffic_flows(&gateway);
    token.set_pin(PIN);
    LinkState::of(&gateway).wait("online");

    // Another key under the same label is not ours.
    let other = Token::new(&["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    other.plug_in();
    other.set_pin(PIN);
    let (_mosquitto, mut gateway) = other.bridge();
    copy(&token.path("box.pem"), &other.path("box.pem"));
    gateway.start_again();
    says(&mut gateway, "is not the key of the certificate in");
}
