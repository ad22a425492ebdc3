//! MQTT-SN clients, codecs and radio modules that were not written here.

use std::collections::BTreeSet;
use std::process::Command;

use crate::harness::gateway::Gateway;
use crate::harness::process::Process;
use crate::harness::{free_port, peers};

const PREDEFINED: &str = "[sn.predefined]\n\"known/topic\" = 7\n";

/// A gateway with a UDP link at the port that is returned too.
fn gateway() -> (Gateway, u16) {
    let port = free_port();
    let link = format!("[[link]]\nname = \"radio\"\nkind = \"udp\"\nbind = \"127.0.0.1:{port}\"\n");
    (Gateway::start(&format!("[sn]\nadvertise_interval = \"0s\"\n{PREDEFINED}{link}")), port)
}

#[test]
fn the_library_mqtt_sn_12_does_all_that_it_can() {
    let (mut gateway, port) = gateway();
    peers::run_script("mqttsn12_client.py", &[&port.to_string()]);
    assert!(gateway.is_running());
}

#[test]
fn scapy_and_wireshark_read_what_we_write_and_we_read_what_scapy_writes() {
    let (gateway, port) = gateway();
    let capture = gateway.dir().join("wire.pcap");
    peers::run_script("scapy_codec.py", &[&port.to_string(), capture.to_str().unwrap()]);

    let mut tshark = Command::new("tshark");
    tshark.args(["-r", capture.to_str().unwrap(), "-d", &format!("udp.port=={port},mqttsn")]);
    tshark.args(["-T", "fields", "-e", "frame.protocols", "-e", "mqttsn.msg.type", "-e", "_ws.malformed"]);
    tshark.args(["-e", "_ws.expert.message", "-e", "udp.srcport"]);
    let output = tshark.output().expect("tshark is installed: tests/run installs it");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut types = BTreeSet::new();
    let mut ours = 0;
    for line in text.lines() {
        let [protocols, kind, malformed, expert, source] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line:?}")
        };
        assert!(protocols.ends_with("udp:mqttsn"), "{line}");
        if source == port.to_string() {
            assert_eq!((malformed, expert), ("", ""), "{line}");
            ours += 1;
            types.extend(kind.split(',').map(str::to_owned));
        }
    }
    assert!(ours >= 30, "{ours} messages of ours:\n{text}");
    // GWINFO, CONNACK, WILLTOPICREQ, WILLMSGREQ, REGISTER, REGACK, PUBLISH, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK,
    // UNSUBACK, PINGRESP, DISCONNECT, WILLTOPICRESP, WILLMSGRESP, and the envelope.
    let wanted = [2, 5, 6, 8, 0xA, 0xB, 0xC, 0xD, 0xE, 0xF, 0x10, 0x13, 0x15, 0x17, 0x18, 0x1B, 0x1D, 0xFE];
    let wanted: BTreeSet<String> = wanted.iter().map(|kind| format!("0x{kind:02x}")).collect();
    assert_eq!(types, wanted);
}

#[test]
fn a_node_with_digi_xbee_talks_through_two_modules_in_both_api_modes() {
    for (mode, framing) in [("1", "xbee"), ("2", "xbee-escaped")] {
        let mut node = Process::start("xbee_node.py", &mut peers::script("xbee_node.py", &[mode]));
        let device = node.line("its device", |line| line.strip_prefix("device ").map(str::to_owned));
        let link = format!(
            "[sn]\nadvertise_interval = \"1s\"\n[[link]]\nname = \"xbee\"\nkind = \"serial\"\ndevice = {device:?}\nframing = {framing:?}\nmtu = 84\n"
        );
        let mut gateway = Gateway::start(&link);
        node.tell("go");
        let status = node.wait();
        assert!(status.success(), "mode {mode}: it ended with {status}:\n{}", node.text());
        assert!(gateway.is_running());
    }
}
