"""The tables of the journal, and how older files become like them.

`messages`: pending while `settled` is 0; a settled one stays only until the cases have it too (`meta.folded`).
`receipts` is the receipt book: one row per (sender, report_id), written once. Its rows lie in the order they came, and
where Kafka has a message stands beside them by the same seq, so that neither accepting nor settling a thousand
rewrites a thousand pages; only the index of the ids is in no order but the senders' own.
`topics.handed` is the highest seq ever handed to a producer: what is pending at or below it may already be in Kafka,
hence its next sending is another attempt.
"""

VERSION = 2
SCHEMA = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE messages(
  seq INTEGER PRIMARY KEY AUTOINCREMENT, settled INTEGER NOT NULL DEFAULT 0, topic TEXT NOT NULL,
  case_id TEXT NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL, received_at INTEGER NOT NULL,
  attempt INTEGER NOT NULL, sender TEXT NOT NULL, report_id TEXT NOT NULL, fact BLOB);
CREATE INDEX pending ON messages(topic, seq) WHERE settled=0;
CREATE INDEX unfolded ON messages(seq) WHERE settled=1;
CREATE TABLE receipts(
  seq INTEGER PRIMARY KEY, sender TEXT NOT NULL, report_id TEXT NOT NULL, fingerprint BLOB NOT NULL,
  case_id TEXT NOT NULL, topic TEXT NOT NULL, received_at INTEGER NOT NULL);
CREATE UNIQUE INDEX receipts_by_id ON receipts(sender, report_id);
CREATE TABLE settlements(
  seq INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL, settled_at INTEGER NOT NULL);
CREATE TABLE parked(
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, case_id TEXT NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL,
  received_at INTEGER NOT NULL, attempt INTEGER NOT NULL, sender TEXT NOT NULL, report_id TEXT NOT NULL, fact BLOB,
  reason TEXT NOT NULL, detail TEXT NOT NULL, parked_at INTEGER NOT NULL);
CREATE TABLE topics(name TEXT PRIMARY KEY, handed INTEGER NOT NULL) WITHOUT ROWID;
"""

# The topics that anything pending is for, found by a seek each: DISTINCT would walk the whole backlog. For a FROM.
WAITING = """(WITH RECURSIVE waiting(topic) AS (
  SELECT min(topic) FROM messages WHERE settled=0
  UNION ALL
  SELECT (SELECT min(topic) FROM messages WHERE settled=0 AND topic>waiting.topic) FROM waiting WHERE topic IS NOT NULL
) SELECT topic FROM waiting WHERE topic IS NOT NULL)"""

# The headers were a JSON object; now they are their values in the order of the contract, a line each.
_LINES = """CAST(headers->>'$.ce_specversion' || char(10) || (headers->>'$.ce_id') || char(10)
  || (headers->>'$.ce_source') || char(10) || (headers->>'$.ce_type') || char(10) || (headers->>'$.ce_time')
  || char(10) || (headers->>'$."content-type"') || coalesce(char(10) || (headers->>'$.traceparent'), '') AS BLOB)"""
_FROM_1 = f"""
DROP VIEW receipts;
CREATE TABLE receipts(
  seq INTEGER PRIMARY KEY, sender TEXT NOT NULL, report_id TEXT NOT NULL, fingerprint BLOB NOT NULL,
  case_id TEXT NOT NULL, topic TEXT NOT NULL, received_at INTEGER NOT NULL);
INSERT INTO receipts SELECT seq, sender, report_id, fingerprint, case_id, topic, received_at FROM dedupe ORDER BY seq;
DROP TABLE dedupe;
CREATE UNIQUE INDEX receipts_by_id ON receipts(sender, report_id);
DROP INDEX settlements_by_age;
ALTER TABLE settlements DROP COLUMN sender;
ALTER TABLE settlements DROP COLUMN report_id;
UPDATE messages SET headers={_LINES};
ALTER TABLE messages ADD COLUMN fact BLOB;
ALTER TABLE parked RENAME TO parked_1;
CREATE TABLE parked(
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, case_id TEXT NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL,
  received_at INTEGER NOT NULL, attempt INTEGER NOT NULL, sender TEXT NOT NULL, report_id TEXT NOT NULL, fact BLOB,
  reason TEXT NOT NULL, detail TEXT NOT NULL, parked_at INTEGER NOT NULL);
INSERT INTO parked SELECT seq, topic, case_id, {_LINES}, value, received_at, attempt, sender, report_id, NULL,
  reason, detail, parked_at FROM parked_1;
DROP TABLE parked_1;
"""
UPGRADES = {1: _FROM_1}  # version found → what makes it the next one
