//! XON/XOFF on a serial line (a pseudo-terminal), with the framing that keeps both octets out of messages.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use moteway::mqttsn::framing::Framer;
use moteway::time::Instant;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;
use serde_json::Value;

use crate::harness::gateway::Gateway;
use crate::harness::{BOUND, until};

const XOFF: u8 = 0x13;
const XON: u8 = 0x11;
const CONNECT: &[u8] = &[0x08, 0x04, 0x04, 0x01, 0x00, 0x3C, 0x61, 0x62];
const PINGREQ: &[u8] = &[0x02, 0x16];

/// What a module in API mode 2 says when a message came from a node, whose address has both octets in it.
fn received(message: &[u8]) -> Vec<u8> {
    let address = [0x00, 0x13, 0xA2, 0x00, 0x40, 0x11, 0x22, 0x33, 0xFF, 0xFE];
    let frame = [&[0x90][..], &address, &[0x01], message].concat();
    let sum = frame.iter().fold(0_u8, |sum, octet| sum.wrapping_add(*octet));
    let length = u16::try_from(frame.len()).unwrap().to_be_bytes();
    let mut line = vec![0x7E];
    for octet in [&length[..], &frame, &[0xFF - sum]].concat() {
        match octet {
            0x7E | 0x7D | XON | XOFF => line.extend([0x7D, octet ^ 0x20]),
            _ => line.push(octet),
        }
    }
    line
}

/// Whether there is something to read, now or soon.
fn is_readable(line: &File, patience: PollTimeout) -> bool {
    poll(&mut [PollFd::new(line.as_fd(), PollFlags::POLLIN)], patience).unwrap() > 0
}

/// The next octets on the line; there must be some.
fn read(line: &mut File) -> Vec<u8> {
    assert!(is_readable(line, PollTimeout::try_from(BOUND).unwrap()), "nothing came on the line");
    let mut octets = [0; 256];
    let count = line.read(&mut octets).unwrap();
    octets[..count].to_vec()
}

#[test]
fn xoff_holds_messages_back_until_xon_and_costs_none() {
    let pty = openpty(None, None).unwrap();
    let mut settings = tcgetattr(&pty.slave).unwrap();
    cfmakeraw(&mut settings);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
    let device = ttyname(&pty.slave).unwrap();
    let gateway = Gateway::start(&format!(
        "[sn]\nadvertise_interval = \"0s\"\n[[link]]\nname = \"module\"\nkind = \"serial\"\ndevice = {device:?}\n\
         framing = \"xbee-escaped\"\nxonxoff = true\nmtu = 84\n"
    ));
    let link = || -> Value {
        let ran = gateway.ask(&["status", "--json"]);
        serde_json::from_slice::<Value>(&ran.stdout).unwrap()["links"][0].clone()
    };
    let mut line = File::from(pty.master);
    line.write_all(&received(CONNECT)).unwrap();
    let connack = read(&mut line);

    line.write_all(&[&[XOFF][..], &received(PINGREQ)].concat()).unwrap();
    until("it is answered", || link()["messages_sent"] == 2);
    assert!(!is_readable(&line, PollTimeout::ZERO), "it was sent after XOFF");
    line.write_all(&[XON]).unwrap();
    let pingresp = read(&mut line);
    assert_eq!((&link()["dropped"], &link()["serial"]["noise_bytes"]), (&0.into(), &0.into()), "{}", link());

    // What went out is a transmit request with the message at its end, and has neither octet in it.
    let messages = [(connack, &[0x03, 0x05, 0x00][..]), (pingresp, &[0x02, 0x17])];
    for (octets, message) in messages {
        assert!(!octets.contains(&XON) && !octets.contains(&XOFF), "{octets:02x?}");
        assert!(octets[..octets.len() - 1].ends_with(message), "{octets:02x?}");
    }
    // Whereas a message itself may have them.
    let mut framer = Framer::xbee(84, true);
    framer
        .feed(Instant::ZERO, &received(&[&[0x09, 0x0C, 0x62, 0x74, 0x74, 0x00, 0x00][..], &[XON, XOFF]].concat()));
    assert!(framer.next_frame().unwrap().ends_with(&[XON, XOFF]));
}
