-- A store as version 2 lays it out, the same as version 1 with the columns that it added: two queues, one with a dead prefix, records, QoS 2 states, a
-- retained message, a dead letter. Never changed: later versions must read it.
PRAGMA page_size = 2048;
PRAGMA auto_vacuum = INCREMENTAL;
CREATE TABLE message(
  key INTEGER PRIMARY KEY,
  qos INTEGER, retain INTEGER,
  published_qos INTEGER, published_retain INTEGER,
  received_at INTEGER, expires_at INTEGER,
  pkid INTEGER, subscription_ids TEXT,
  topic TEXT, properties BLOB, payload BLOB, number INTEGER);
CREATE TABLE queue(
  dest INTEGER PRIMARY KEY, deleted_to INTEGER, count INTEGER, bytes INTEGER,
  dead_count INTEGER, dead_bytes INTEGER, last INTEGER, last_pkid INTEGER);
CREATE TABLE dead_letter(
  id INTEGER PRIMARY KEY, key INTEGER, reason TEXT,
  qos INTEGER, retain INTEGER, published_qos INTEGER, published_retain INTEGER,
  received_at INTEGER, expires_at INTEGER, pkid INTEGER, subscription_ids TEXT,
  topic TEXT, properties BLOB, payload BLOB, number INTEGER, queue TEXT, buried_at INTEGER);
CREATE TABLE record(kind INTEGER, key BLOB, value BLOB, PRIMARY KEY(kind, key)) WITHOUT ROWID;
CREATE TABLE retained(topic TEXT PRIMARY KEY, qos INTEGER, retain INTEGER,
  received_at INTEGER, expires_at INTEGER, properties BLOB, payload BLOB) WITHOUT ROWID;
CREATE TABLE released(dest INTEGER, pkid INTEGER, position INTEGER, PRIMARY KEY(dest, pkid)) WITHOUT ROWID;
CREATE TABLE received(dest INTEGER, pkid INTEGER, PRIMARY KEY(dest, pkid)) WITHOUT ROWID;
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE VIEW queued AS
  SELECT dest, key & 0x7fffffffffff AS seq, topic, message.qos, retain,
         datetime(received_at / 1000.0, 'unixepoch') AS received,
         datetime(expires_at / 1000.0, 'unixepoch') AS expires, payload
  FROM queue JOIN message ON key > dest << 47 | deleted_to AND key <= dest << 47 | last;
INSERT INTO message VALUES((1 << 47) | 4, 1, 0, 1, 0, 1700000000004, NULL, NULL, NULL, 'site/a', NULL, x'64656164', NULL);
INSERT INTO message VALUES((1 << 47) | 5, 1, 0, 1, 1, 1700000000005, 1900000000005, NULL, NULL, 'site/a', x'0101', x'66697665', NULL);
INSERT INTO message VALUES((1 << 47) | 7, 2, 1, 2, 0, 1700000000007, NULL, 32770, '3,17@9', 'site/b', NULL, x'736576656e', NULL);
INSERT INTO message VALUES((2 << 47) | 6, 1, 0, 1, 0, 1700000000006, NULL, NULL, NULL, 'site/c', NULL, zeroblob(5000), NULL);
INSERT INTO queue VALUES(1, 4, 2, 23, 1, 10, 7, 32770);
INSERT INTO queue VALUES(2, 0, 1, 5006, 0, 0, 6, 0);
INSERT INTO dead_letter VALUES(3, (1 << 47) | 2, 'too large', 1, 0, 1, 0, 1700000000002, NULL, NULL, NULL, 'site/x', NULL, x'6269', NULL, NULL, NULL);
INSERT INTO record VALUES(1, x'0001', CAST('rule:cloud/all' AS BLOB));
INSERT INTO record VALUES(1, x'0002', CAST('session:panel' AS BLOB));
INSERT INTO retained VALUES('state/door', 1, 1, 1700000000001, NULL, NULL, x'6f70656e');
INSERT INTO released VALUES(1, 32769, 1);
INSERT INTO received VALUES(2, 77);
INSERT INTO meta VALUES('last_seq', 1048575);
INSERT INTO meta VALUES('schema', 2);
PRAGMA application_id = 1836020837;
PRAGMA user_version = 2;
