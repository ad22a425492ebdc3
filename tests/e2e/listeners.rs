//! All kinds of listeners in one gateway, as mosquitto's clients meet them.

use nix::sys::signal::Signal;

use crate::harness::certs::Certs;
use crate::harness::free_port;
use crate::harness::gateway::Gateway;
use crate::harness::tools::{self, messages};

#[test]
fn mosquitto_clients_meet_over_tcp_tls_and_a_unix_socket_also_after_new_certificates() {
    let (certs, tls, ws) = (Certs::new(), free_port(), free_port());
    let mut gateway = Gateway::prepare("box", "");
    let socket = gateway.dir().join("mqtt.sock");
    gateway.add(&format!(
        "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:{tls}\"\nallow_anonymous = true\n{}\
         [[listener]]\nname = \"ws\"\nbind = \"127.0.0.1:{ws}\"\nprotocol = \"websocket\"\n\
         [[listener]]\nname = \"socket\"\nbind = {socket:?}\nmode = \"0600\"\n",
        certs.listener_tls()
    ));
    gateway.start_again();
    let said = gateway.process().text();
    for place in
        [format!("tls=mqtts://127.0.0.1:{tls}"), format!("ws=ws://127.0.0.1:{ws}"), "mqtt+unix://".to_owned()]
    {
        assert!(said.contains(&place), "{place} is not announced: {said}");
    }
    let (ca, socket) = (certs.ca().display().to_string(), socket.display().to_string());
    let over_tls = ([127, 0, 0, 1], tls).into();
    let wanted = ["-t", "meet", "-q", "1", "-C", "6"];
    let mut subscriber = tools::subscribe(over_tls, "%p", &[&wanted[..], &["--cafile", &ca]].concat());
    for round in 0..2 {
        for (way, at, how) in [
            ("tcp", gateway.address(), &[][..]),
            ("tls", over_tls, &["--cafile", &ca]),
            ("unix", gateway.address(), &["--unix", &socket]),
        ] {
            let text = format!("{way} {round}");
            tools::publish(at, &[&["-t", "meet", "-q", "1", "-m", &text], how].concat());
        }
        gateway.process().signal(Signal::SIGHUP);
        gateway.process().says("configuration reloaded");
    }
    assert!(subscriber.wait().success());
    let wanted = (0..2).flat_map(|round| ["tcp", "tls", "unix"].map(|way| format!("{way} {round}")));
    assert_eq!(messages(&subscriber), wanted.collect::<Vec<_>>());
    let (status, _) = gateway.terminate();
    assert!(status.success());
    assert!(!std::path::Path::new(&socket).exists(), "the socket was left behind");
}
