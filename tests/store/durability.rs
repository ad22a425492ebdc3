//! What each level of `durability` has the disk do: a child commits under strace, which tells every sync.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use moteway::config::Durability;
use moteway::store::{Database, Options};
use tempfile::TempDir;

use crate::support::{append, apply, options, seqs};

const DIR: &str = "MOTEWAY_TEST_DURABILITY_DIR";
const LEVEL: &str = "MOTEWAY_TEST_DURABILITY_LEVEL";
const BATCHES: u64 = 20;
const LEVELS: [(&str, Durability); 3] =
    [("power-loss", Durability::PowerLoss), ("crash", Durability::Crash), ("none", Durability::None)];

fn at_level(dir: &Path, name: &str) -> Options {
    let (_, durability) = LEVELS.into_iter().find(|(level, _)| *level == name).expect("a level");
    Options { durability, ..options(dir) }
}

/// Not a test by itself: it is watched, and dies without an orderly end.
#[test]
fn child_that_commits_at_a_level() {
    let (Some(dir), Ok(level)) = (std::env::var_os(DIR), std::env::var(LEVEL)) else { return };
    let (mut database, _) = Database::open(&at_level(dir.as_ref(), &level)).unwrap();
    let mark = |text: &str| {
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap();
    };
    mark("committing\n");
    for seq in 1..=BATCHES {
        apply(&mut database, seq, vec![append(1, seq)]).unwrap();
    }
    mark("folding\n");
    database.session().checkpoint().unwrap();
    mark("dying\n");
    std::process::exit(0);
}

/// Syncs while it committed, and while the log was folded into the file.
fn syncs(dir: &Path, level: &str) -> [usize; 2] {
    let trace = dir.join("trace");
    let status = Command::new("strace")
        .args(["-f", "-e", "trace=write,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "durability::child_that_commits_at_a_level", "--nocapture"])
        .envs([(DIR, dir.as_os_str()), (LEVEL, level.as_ref())])
        .stdout(Stdio::null())
        .status()
        .expect("strace is there: `apt-get install strace`");
    assert!(status.success(), "{level}: {status}");
    let text = std::fs::read_to_string(&trace).unwrap();
    let between = |from: &str, to: &str| {
        let lines = text.lines().skip_while(|line| !line.contains(from)).take_while(|line| !line.contains(to));
        lines.filter(|line| line.contains("sync(")).count()
    };
    assert!(text.contains("dying"), "{text}");
    [between("\"committing", "\"folding"), between("\"folding", "\"dying")]
}

#[test]
fn each_level_syncs_as_often_as_it_says_and_survives_the_death_of_the_process() {
    let found = LEVELS.map(|(level, _)| {
        let dir = TempDir::new().unwrap();
        let found = syncs(dir.path(), level);
        let (mut database, recovered) = Database::open(&at_level(dir.path(), level)).unwrap();
        assert_eq!(recovered.damage, None, "{level}");
        assert_eq!(seqs(&mut database, 1), (1..=BATCHES).collect::<Vec<_>>(), "{level}");
        found
    });
    let [[power_loss, _], [crash, crash_folds], none] = found;
    assert!(power_loss >= usize::try_from(BATCHES).unwrap(), "a sync for each commit: {found:?}");
    assert!(
        crash == 0 && crash_folds > 0,
        "the file may be torn by no power cut, the last commits may be lost: {found:?}"
    );
    assert_eq!(none, [0, 0], "{found:?}");
}
