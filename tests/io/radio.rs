//! MQTT-SN over UDP and over serial lines.

use moteway::config::{LinkKind, SerialLink, UdpLink};
use moteway::mqtt::QoS;

use crate::client::{Client, publish};
use crate::log;
use crate::sensor::{Radio, Sensor, Serial, Udp, encode, hello};
use crate::setup::{Setup, any_port, tcp};

#[test]
fn sensors_on_udp_publish_and_each_gets_its_own() {
    let setup = Setup::new()
        .with_listener(None)
        .with_link(LinkKind::Udp(UdpLink { bind: any_port(), ..UdpLink::default() }));
    let daemon = setup.start();
    let gateway = daemon.ready.links[0].1;
    let mut subscriber = Client::connect(tcp(&daemon, 0), "subscriber");
    subscriber.subscribe("sensor/#", QoS::AtMostOnce);
    let mut sensors = Vec::new();
    for i in 0..10 {
        let mut sensor = Sensor::connect(Udp::new(gateway), &format!("sensor-{i}"));
        let topic = sensor.register(&format!("sensor/{i}"));
        sensor.subscribe(&format!("command/{i}"));
        sensors.push((sensor, topic));
    }
    for round in 0..30 {
        for (i, (sensor, topic)) in sensors.iter_mut().enumerate() {
            sensor.publish(*topic, format!("{i} {round}").as_bytes());
            let message = subscriber.message();
            assert_eq!(
                (message.topic, message.payload),
                (format!("sensor/{i}"), format!("{i} {round}").into_bytes())
            );
        }
    }
    for i in 0..10 {
        subscriber.send(&publish(&format!("command/{i}"), format!("to {i}").as_bytes(), QoS::AtMostOnce, 0));
    }
    for (i, (sensor, _)) in sensors.iter_mut().enumerate() {
        assert_eq!(sensor.payload(), format!("to {i}").into_bytes());
    }
}

#[test]
fn datagrams_that_are_nothing_are_nothing() {
    let setup = Setup::new().with_link(LinkKind::Udp(UdpLink { bind: any_port(), ..UdpLink::default() }));
    let daemon = setup.start();
    let gateway = daemon.ready.links[0].1;
    let mut noise = Udp::new(gateway);
    for octets in [&[][..], &[0], &[1], &[1, 0, 0], &[2, 0xEE], &[3, 0xFE, 0], &[0xFF; 1500]] {
        noise.send(octets);
    }
    Sensor::connect(noise, "sane after all");
}

#[test]
fn a_serial_line_is_served_past_noise_and_is_opened_again_after_it_vanished() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("radio");
    let kind = LinkKind::Serial(SerialLink { device: device.clone(), ..SerialLink::default() });
    let daemon = Setup::new().with_listener(None).with_link(kind).start();
    let mut subscriber = Client::connect(tcp(&daemon, 0), "subscriber");
    subscriber.subscribe("field/#", QoS::AtMostOnce);
    for _ in 0..2 {
        let mut line = Serial::plug(&device);
        line.send(&[&[0, 0xFE, 0xFD][..], &encode(&hello("sensor"))].concat());
        assert_eq!(line.receive(), [3, 5, 0], "CONNACK");
        let mut sensor = Sensor::connect(line, "sensor");
        let topic = sensor.register("field/1");
        for size in [0, 1, 100, 200] {
            sensor.publish(topic, &vec![b'x'; size]);
            assert_eq!(subscriber.message().payload, vec![b'x'; size]);
        }
        sensor.subscribe("command");
        subscriber.send(&publish("command", b"down", QoS::AtMostOnce, 0));
        assert_eq!(sensor.payload(), b"down");

        drop(sensor);
        std::fs::remove_file(&device).unwrap();
        log::wait_for_line(&["serial port lost", "link-0"]);
        subscriber.ping();
    }
}
