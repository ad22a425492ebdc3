//! Files of every version so far: this one reads them, and what it makes of them is what it makes anew.

use std::path::Path;

use moteway::mqtt::QoS;
use moteway::queue::{DestId, Due, Look, Number, Op, Seq};
use moteway::store::{Database, Inspector};
use moteway::time::Wall;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{append, apply, options, read_all, seqs};

/// What each version left, in order.
const VERSIONS: [&str; 2] = [include_str!("versions/1.sql"), include_str!("versions/2.sql")];

fn file_of(version: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    Connection::open(dir.path().join("moteway.db")).unwrap().execute_batch(version).unwrap();
    dir
}

/// Tables with their columns, in order.
fn columns(dir: &Path) -> Vec<String> {
    let conn = Connection::open(dir.join("moteway.db")).unwrap();
    let sql = "SELECT m.name || '.' || p.name || ' ' || p.type || ' ' || p.pk
               FROM sqlite_master m JOIN pragma_table_info(m.name) p ORDER BY m.name, p.cid";
    let mut statement = conn.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn files_of_every_version_are_read_and_brought_up_to_date() {
    for version in VERSIONS {
        let dir = file_of(version);
        let (mut database, found) = Database::open(&options(dir.path())).unwrap();
        assert_eq!(found.damage, None);
        assert_eq!((found.queues.len(), found.records.len(), found.last_seq), (2, 2, Seq(1_048_575)));
        let due = Due { dest: DestId(1), pkid: 32769, held: Seq(0) };
        assert_eq!((found.released, found.received), (vec![due], vec![(DestId(2), 77)]));
        assert_eq!((found.retained[0].topic(), found.retained[0].payload()), ("state/door", &b"open"[..]));
        let rows = database.session().read(&read_all(1, 0)).unwrap();
        let [five, seven] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((five.seq, five.message.payload(), five.message.retain), (Seq(5), &b"five"[..], true));
        assert_eq!(
            (five.message.expires_at.map(Wall::as_millis), five.message.properties()),
            (Some(1_900_000_000_005), &[1, 1][..])
        );
        let delivery = &seven.delivery;
        assert_eq!(
            (delivery.qos, delivery.retain, delivery.pkid, delivery.share),
            (QoS::ExactlyOnce, true, 32770, 9)
        );
        assert_eq!((&*delivery.subscription_ids, delivery.number), (&[3, 17][..], Number(0)));
        let letters = Inspector::open(dir.path()).unwrap().dead(None, 0).unwrap();
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!(
            (letter.id, letter.queue.as_str(), letter.reason.as_str(), letter.buried_at),
            (3, "", "too large", None)
        );
        assert_eq!(letter.message.payload(), b"bi");
        // It goes on from there.
        let bury = Op::Bury { dest: DestId(1), seq: Seq(5), reason: "refused".to_owned() };
        apply(&mut database, 1, vec![append(1, 1_048_576), bury]).unwrap();
        assert_eq!(seqs(&mut database, 1), [7, 1_048_576]);
        let letters = Inspector::open(dir.path()).unwrap().dead(Some("rule:cloud/all"), 0).unwrap();
        assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [4]);
        database.close().unwrap();
        let fresh = TempDir::new().unwrap();
        Database::open(&options(fresh.path())).unwrap().0.close().unwrap();
        assert_eq!(columns(dir.path()), columns(fresh.path()));
    }
}

/// Cut short at any step, a migration is done again.
#[test]
fn a_migration_is_whole_or_not_at_all() {
    let dir = file_of(VERSIONS[0]);
    let conn = Connection::open(dir.path().join("moteway.db")).unwrap();
    conn.execute_batch("BEGIN; ALTER TABLE message ADD COLUMN number INTEGER; ROLLBACK").unwrap();
    drop(conn);
    for _ in 0..2 {
        let (mut database, found) = Database::open(&options(dir.path())).unwrap();
        assert_eq!((found.damage, seqs(&mut database, 1)), (None, vec![5, 7]));
    }
}
