//! What packaging/doc/serial.md says about framings is what they do: its example octet for octet, and its C against
//! ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use moteway::mqttsn::Message;
use moteway::mqttsn::framing::Framer;
use moteway::time::Instant;
use tempfile::TempDir;

const DOCUMENT: &str = include_str!("../packaging/doc/serial.md");
/// SN_MTU in the document.
const MTU: usize = 128;

/// Reads messages with their lengths and writes the line, or the other way round.
const MAIN: &str = r#"
#include <stdio.h>

int main(int argc, char **argv)
{
    static uint8_t message[SN_MTU], line[2 * SN_MTU];
    static struct sn_receiver receiver;
    int octet;
    (void)argv;
    while ((octet = getchar()) != EOF) {
        if (argc > 1) {
            size_t len = sn_receive(&receiver, (uint8_t)octet);
            if (len > 0) {
                putchar((int)len);
                fwrite(receiver.frame, 1, len, stdout);
            }
        } else {
            size_t len = fread(message, 1, (size_t)octet, stdin);
            fwrite(line, 1, sn_encode(message, len, line), stdout);
        }
    }
    return 0;
}
"#;

fn decode(framer: &mut Framer, line: &[u8]) -> Vec<Vec<u8>> {
    framer.feed(Instant::ZERO, line);
    std::iter::from_fn(|| framer.next_frame().map(<[u8]>::to_vec)).collect()
}

#[test]
fn the_example_in_the_document_is_what_each_framing_does() {
    let framings: [(&str, fn(usize) -> Framer); 4] =
        [("length", Framer::length), ("slip", Framer::slip), ("cobs", Framer::cobs), ("hdlc", Framer::hdlc)];
    let example = DOCUMENT.split_once("## An example").unwrap().1;
    let row = |name: &str| -> [Vec<u8>; 2] {
        let row = example.lines().find(|line| line.starts_with(&format!("| `\"{name}\"` |"))).unwrap();
        let octets = |cell: &str| cell.split(' ').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        [3, 5].map(|at| octets(row.split('`').nth(at).unwrap()))
    };
    let messages = row("length");
    assert!(matches!(
        messages.each_ref().map(|octets| Message::decode(octets).unwrap()),
        [Message::Connect(connect), Message::ConnAck(_)] if connect.duration == 192 && connect.client_id == "n~1"
    ));
    for (name, new) in framings {
        for (message, line) in messages.iter().zip(row(name)) {
            let mut framer = new(MTU);
            let mut encoded = Vec::new();
            framer.encode(message, &mut encoded);
            assert_eq!(format!("{encoded:02X?}"), format!("{line:02X?}"), "{name}");
            assert_eq!(decode(&mut framer, &line), [&message[..]], "{name}");
        }
    }
}

#[test]
fn the_c_in_the_document_compiles_and_agrees_with_us() {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(&dir);
    let mut rng = fastrand::Rng::with_seed(1999);
    let messages: Vec<Vec<u8>> = (0..2000)
        .map(|_| {
            let most = if rng.bool() { 12 } else { MTU };
            (0..rng.usize(1..=most)).map(|_| if rng.u8(..) < 40 { 0 } else { rng.u8(..) }).collect()
        })
        .collect();
    let records: Vec<u8> = messages.iter().flat_map(|message| record(message)).collect();
    let mut line = Vec::new();
    for message in &messages {
        Framer::cobs(MTU).encode(message, &mut line);
    }
    assert!(run(&program, &[], records.clone()) == line, "sn_encode");
    assert!(run(&program, &["decode"], line.clone()) == records, "sn_receive");

    // One octet in fifty is broken. Both find the same frames in what is left.
    for octet in &mut line {
        if rng.u8(..) < 5 {
            *octet = rng.u8(..);
        }
    }
    let ours = decode(&mut Framer::cobs(MTU), &line);
    assert!(ours.len() > messages.len() / 10 && ours.len() < messages.len(), "{}", ours.len());
    assert!(ours.iter().all(|frame| messages.contains(frame)));
    let ours: Vec<u8> = ours.iter().flat_map(|frame| record(frame)).collect();
    assert!(run(&program, &["decode"], line) == ours, "sn_receive on a noisy line");
}

fn record(message: &[u8]) -> Vec<u8> {
    [&[u8::try_from(message.len()).unwrap()], message].concat()
}

fn compile(dir: &TempDir) -> PathBuf {
    let (source, program) = (dir.path().join("cobs.c"), dir.path().join("cobs"));
    let code = DOCUMENT.split_once("```c\n").unwrap().1.split_once("```").unwrap().0;
    fs::write(&source, format!("{code}{MAIN}")).unwrap();
    let flags = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-o"];
    let output = Command::new("cc").args(flags).arg(&program).arg(&source).output().expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

fn run(program: &PathBuf, arguments: &[&str], input: Vec<u8>) -> Vec<u8> {
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    output
}

#[test]
fn the_example_of_a_radio_module_is_what_the_framing_takes() {
    let (_, line) = DOCUMENT.split_once("arrives as\n`").unwrap();
    let (line, _) = line.split_once('`').unwrap();
    let line: Vec<u8> = line.split(' ').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
    let [frame] = &decode(&mut Framer::xbee(MTU, false), &line)[..] else { panic!("no frame, or more") };
    let (envelope, message) = moteway::mqttsn::decode_datagram(frame).unwrap();
    assert_eq!(envelope.unwrap().node, [0x00, 0x13, 0xA2, 0x00, 0x40, 0x52, 0x2B, 0xAA]);
    assert!(matches!(message, Message::PingReq(_)));
}
