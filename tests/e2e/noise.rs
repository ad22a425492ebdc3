//! Five serial lines at once, one of which is nothing but noise.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::gateway::Gateway;
use crate::harness::sensor::{Radio, Sensor};

const ROUND_TRIPS: usize = 200;

/// Round trips on all lines in turn: the median and the 99th percentile.
fn round_trips(sensors: &mut [Sensor]) -> (Duration, Duration) {
    let mut took = Vec::new();
    for _ in 0..ROUND_TRIPS {
        for sensor in &mut *sensors {
            let start = Instant::now();
            sensor.ping();
            took.push(start.elapsed());
        }
    }
    took.sort_unstable();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

#[test]
fn a_line_of_pure_noise_at_full_speed_stops_no_other_line() {
    let lines: Vec<Radio> = ["length", "slip", "cobs", "hdlc", "length"].map(Radio::serial).into();
    let links = lines.iter().enumerate().map(|(i, line)| line.link.replace("\"radio\"", &format!("\"radio-{i}\"")));
    let mut gateway = Gateway::start(&format!("[sn]\nadvertise_interval = \"0s\"\n{}", links.collect::<String>()));
    let mut sensors: Vec<Sensor> = lines[..4].iter().map(Radio::sensor).collect();
    for (i, sensor) in sensors.iter_mut().enumerate() {
        sensor.connect(&format!("sensor-{i}"), true, 600);
    }
    let (quiet_median, quiet_high) = round_trips(&mut sensors);

    let mut noise = lines[4].line();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (told, count) = (Arc::clone(&stop), Arc::clone(&written));
    let writer = std::thread::spawn(move || {
        let mut random = fastrand::Rng::with_seed(5);
        let mut octets = [0; 4096];
        while !told.load(Ordering::Relaxed) {
            random.fill(&mut octets);
            noise.write_all(&octets).unwrap();
            count.fetch_add(octets.len() as u64, Ordering::Relaxed);
        }
    });
    let start = Instant::now();
    let (noisy_median, noisy_high) = round_trips(&mut sensors);
    let rate = written.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64() / 1e6;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    println!("round trip on 4 lines: median {quiet_median:?}, 99 % {quiet_high:?}");
    println!("with {rate:.1} MB/s of noise on a fifth: median {noisy_median:?}, 99 % {noisy_high:?}");
    assert!(written.load(Ordering::Relaxed) > 0 && gateway.is_running());
}
