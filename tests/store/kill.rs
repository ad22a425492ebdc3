//! Death by SIGKILL while batches are committed: what was reported as committed is there afterwards.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use moteway::queue::{Batch, DestId, Op, Seq};
use moteway::store::Database;
use tempfile::TempDir;

use crate::support::{append, options, seqs};

const DIR: &str = "MOTEWAY_TEST_KILL_DIR";

/// Not a test by itself: the child that is killed. Commits without end and says what is committed.
#[test]
fn child_that_commits_until_it_dies() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (mut database, found) = Database::open(&options(dir.as_ref())).unwrap();
    let mut session = database.session();
    let mut out = std::io::stdout();
    let mut seq = found.last_seq.0;
    for id in 1.. {
        let size = 1 + id % 40;
        let mut ops: Vec<Op> = (1..=size).map(|n| append(1, seq + n)).collect();
        seq += size;
        // The reader drops a prefix; at least the newest 200 stay.
        ops.push(Op::DeleteUpTo { dest: DestId(1), seq: Seq(seq.saturating_sub(200)) });
        session.apply(&Batch { id, ops }).unwrap();
        writeln!(out, "committed {seq}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_committed_survives_sigkill() {
    let dir = TempDir::new().unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..20 {
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child_that_commits_until_it_dies", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The moment: after so many commits, and then some time in the middle of one.
        let mut committed: u64 = 0;
        let mut left = rng.u32(1..60);
        while left > 0 {
            if let Some(seq) = lines.next().unwrap().unwrap().strip_prefix("committed ") {
                committed = seq.parse().unwrap();
                left -= 1;
            }
        }
        let until = Instant::now() + Duration::from_micros(rng.u64(..3000));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some(seq) = line.strip_prefix("committed ").and_then(|seq| seq.parse().ok()) {
                committed = seq;
            }
        }
        let (mut database, found) = Database::open(&options(dir.path())).unwrap();
        assert_eq!(found.damage, None, "round {round}");
        let stored = seqs(&mut database, 1);
        assert!(stored.contains(&committed), "round {round}: {committed} is lost");
        let newest: Vec<u64> = stored.iter().copied().filter(|seq| *seq > committed.saturating_sub(100)).collect();
        assert!(newest.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] - pair[0] > 1000), "round {round}");
        assert_eq!(found.queues[0].count, stored.len() as u64, "round {round}");
        drop(database);
    }
}
