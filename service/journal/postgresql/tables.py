"""The tables of the journal on PostgreSQL, and what is done in one statement.

As in SQLite (`service.journal.tables`), but for the totals, which stand in two rows, so that who accepts and who
settles do not wait for each other:

- `head` is intake's. Whoever accepts holds it until the commit: so a seq is given, and seen, in the order of commits,
  however many replicas there are. A later seq that were seen before an earlier one would make both readers pass the
  earlier one by, and that is loss.
- `tail` is the leader's. `leader` says who that is; whatever a leader writes begins with a look at it (`fence`), and
  `pulse` that it lives.

`came` and `gone` are bytes of messages, which the limit is about: files never shrink, and are the server's business.
"""

VERSION = 1
MESSAGE_BYTES = 200  # what a message takes beside its texts and blobs, estimated

_TEXT = 'TEXT COLLATE "C" NOT NULL'
_MESSAGE = f"""seq BIGINT PRIMARY KEY, topic {_TEXT}, case_id {_TEXT}, headers BYTEA NOT NULL, value BYTEA NOT NULL,
  received_at BIGINT NOT NULL, attempt INT NOT NULL, sender {_TEXT}, report_id {_TEXT}, fact BYTEA"""
_BYTES = f"{MESSAGE_BYTES}+length(headers)+length(value)+coalesce(length(fact), 0)"

TABLES = f"""
CREATE TABLE head(
  one BOOL PRIMARY KEY DEFAULT true CHECK (one), journal_id TEXT NOT NULL, seq BIGINT NOT NULL DEFAULT 0,
  accepted BIGINT NOT NULL DEFAULT 0, came BIGINT NOT NULL DEFAULT 0) WITH (fillfactor=10);
CREATE TABLE tail(
  one BOOL PRIMARY KEY DEFAULT true CHECK (one), settled BIGINT NOT NULL DEFAULT 0, parked BIGINT NOT NULL DEFAULT 0,
  folded BIGINT NOT NULL DEFAULT 0, gone BIGINT NOT NULL DEFAULT 0) WITH (fillfactor=10);
CREATE TABLE leader(
  one BOOL PRIMARY KEY DEFAULT true CHECK (one), epoch BIGINT NOT NULL DEFAULT 0, holder TEXT NOT NULL DEFAULT '');
CREATE TABLE pulse(
  one BOOL PRIMARY KEY DEFAULT true CHECK (one), beat BIGINT NOT NULL DEFAULT 0,
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(), told JSONB) WITH (fillfactor=10);
INSERT INTO head(journal_id) VALUES(replace(gen_random_uuid()::text, '-', ''));
INSERT INTO tail DEFAULT VALUES;
INSERT INTO leader DEFAULT VALUES;
INSERT INTO pulse DEFAULT VALUES;
CREATE TABLE messages({_MESSAGE}, settled BOOL NOT NULL DEFAULT false);
CREATE INDEX pending ON messages(topic, seq) WHERE NOT settled;
CREATE INDEX unfolded ON messages(seq) WHERE settled;
CREATE TABLE receipts(
  seq BIGINT PRIMARY KEY, sender {_TEXT}, report_id {_TEXT}, fingerprint BYTEA NOT NULL, case_id {_TEXT},
  topic {_TEXT}, received_at BIGINT NOT NULL);
CREATE UNIQUE INDEX receipts_by_id ON receipts(sender, report_id);
CREATE TABLE settlements(
  seq BIGINT PRIMARY KEY, partition INT NOT NULL, "offset" BIGINT NOT NULL, settled_at BIGINT NOT NULL);
CREATE TABLE parked({_MESSAGE}, reason TEXT NOT NULL, detail TEXT NOT NULL, parked_at BIGINT NOT NULL);
CREATE TABLE topics(name {_TEXT} PRIMARY KEY, handed BIGINT NOT NULL);
"""

# Raises for who does not lead; NULL is nobody who would have to. Its lock lets the next one lead only after the commit.
_FENCE = """
CREATE FUNCTION fence(who TEXT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM leader WHERE holder=who FOR SHARE;
  IF NOT FOUND AND who IS NOT NULL THEN
    RAISE EXCEPTION 'deposed' USING ERRCODE='GG001';
  END IF;
END $$;
"""

# A whole group, which knows what others have committed while it waited for `head`: in READ COMMITTED each statement of
# a function sees what is there when it begins. What is not new is left out, for the caller to look up.
_ACCEPT = f"""
CREATE FUNCTION accept(
  senders TEXT[], report_ids TEXT[], fingerprints BYTEA[], case_ids TEXT[], topics_ TEXT[], headers_ BYTEA[],
  values_ BYTEA[], received BIGINT[], facts BYTEA[], OUT before BIGINT, OUT fresh BIGINT, OUT used BIGINT
) LANGUAGE plpgsql AS $$
DECLARE
  size BIGINT;
BEGIN
  SELECT seq INTO before FROM head FOR UPDATE;
  WITH given AS (
    SELECT * FROM unnest(senders, report_ids, fingerprints, case_ids, topics_, headers_, values_, received, facts)
    WITH ORDINALITY AS g(sender, report_id, fingerprint, case_id, topic, headers, value, received_at, fact, place)
  ), firsts AS (
    SELECT DISTINCT ON (sender, report_id) * FROM given g
    WHERE NOT EXISTS (SELECT 1 FROM receipts r WHERE r.sender=g.sender AND r.report_id=g.report_id)
    ORDER BY sender, report_id, place
  ), numbered AS MATERIALIZED (
    SELECT before + row_number() OVER (ORDER BY place) AS seq, * FROM firsts
  ), book AS (
    INSERT INTO receipts SELECT seq, sender, report_id, fingerprint, case_id, topic, received_at FROM numbered
  ), kept AS (
    INSERT INTO messages
    SELECT seq, topic, case_id, headers, value, received_at, 1, sender, report_id, fact FROM numbered
  )
  SELECT count(*), coalesce(sum({_BYTES}), 0) INTO fresh, size FROM numbered;
  UPDATE head SET seq=head.seq+fresh, accepted=accepted+fresh, came=came+size
  RETURNING came - (SELECT gone FROM tail) INTO used;
END $$;
"""

# What is settled is not flushed: what the server forgets of it is published again under its old seq. What is about to
# be handed over is as safe as the reports are, with all that was there before it: Kafka gets nothing that a promoted
# standby lacks, and whose seq that would give to another; and the next leader knows what Kafka may have.
_HAND_OVER = f"""
CREATE FUNCTION hand_over(
  who TEXT, names TEXT[], upto BIGINT[], seqs BIGINT[], partitions BIGINT[], offsets BIGINT[], times BIGINT[],
  folded_ BIGINT
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  landed BIGINT; size BIGINT; more BIGINT;
BEGIN
  IF cardinality(names) = 0 THEN
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;
  PERFORM fence(who);
  INSERT INTO settlements SELECT d.* FROM unnest(seqs, partitions, offsets, times) AS d(seq, partition, at, settled_at)
  JOIN messages m ON m.seq=d.seq AND NOT m.settled ON CONFLICT DO NOTHING;
  WITH left_ AS (
    DELETE FROM messages WHERE NOT settled AND seq<=folded_ AND seq=ANY(seqs) RETURNING {_BYTES} AS bytes
  )
  SELECT count(*), coalesce(sum(bytes), 0) INTO landed, size FROM left_;
  IF landed < cardinality(seqs) THEN
    UPDATE messages SET settled=true WHERE NOT settled AND seq=ANY(seqs);
    GET DIAGNOSTICS more = ROW_COUNT;
    landed := landed + more;
  END IF;
  WITH left_ AS (DELETE FROM messages WHERE settled AND seq<=folded_ RETURNING {_BYTES} AS bytes)
  SELECT size + coalesce(sum(bytes), 0) INTO size FROM left_;
  UPDATE tail SET settled=settled+landed, folded=greatest(folded, folded_), gone=gone+size;
  INSERT INTO topics SELECT * FROM unnest(names, upto)
  ON CONFLICT(name) DO UPDATE SET handed=greatest(topics.handed, excluded.handed);
END $$;
"""

# Not flushed: nothing is sent before the next that is handed over is, and this with it.
_REATTEMPT = """
CREATE FUNCTION reattempt(who TEXT) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM fence(who);
  UPDATE messages SET attempt=attempt+1 FROM topics WHERE NOT settled AND name=topic AND seq<=handed;
END $$;
"""

_PARK = """
CREATE FUNCTION park(who TEXT, seq_ BIGINT, reason_ TEXT, detail_ TEXT, at BIGINT) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  moved BIGINT;
BEGIN
  PERFORM fence(who);
  WITH gone AS (DELETE FROM messages WHERE NOT settled AND seq=seq_ RETURNING *)
  INSERT INTO parked
  SELECT seq, topic, case_id, headers, value, received_at, attempt, sender, report_id, fact, reason_, detail_, at
  FROM gone;
  GET DIAGNOSTICS moved = ROW_COUNT;
  UPDATE tail SET parked=parked+moved;
END $$;
"""

_REQUEUE = """
CREATE FUNCTION requeue(seqs BIGINT[]) RETURNS TABLE(old BIGINT, new BIGINT) LANGUAGE plpgsql AS $$
DECLARE
  last BIGINT; moved BIGINT;
BEGIN
  SELECT seq INTO last FROM head FOR UPDATE;
  CREATE TEMP TABLE again ON COMMIT DROP AS
  SELECT p.*, last + row_number() OVER (ORDER BY w.place) AS next
  FROM (SELECT seq, min(place) AS place FROM unnest(seqs) WITH ORDINALITY AS u(seq, place) GROUP BY seq) w
  JOIN parked p USING(seq);
  DELETE FROM parked WHERE seq IN (SELECT a.seq FROM again a);
  GET DIAGNOSTICS moved = ROW_COUNT;
  UPDATE receipts r SET seq=a.next FROM again a WHERE r.seq=a.seq;
  INSERT INTO messages
  SELECT next, topic, case_id, headers, value, received_at, attempt+1, sender, report_id, fact FROM again;
  UPDATE head SET seq=head.seq+moved;
  UPDATE tail SET parked=tail.parked-moved;
  RETURN QUERY SELECT a.seq, a.next FROM again a ORDER BY a.next;
END $$;
"""

SCHEMA = TABLES + _FENCE + _ACCEPT + _HAND_OVER + _REATTEMPT + _PARK + _REQUEUE

# What the messages take that were put there one by one.
WEIGH = f"""UPDATE head SET came=(SELECT gone FROM tail)+(SELECT coalesce(sum({_BYTES}), 0) FROM messages)
  +(SELECT coalesce(sum({_BYTES}), 0) FROM parked)"""

# The topics that anything pending is for, found by a seek each: DISTINCT would walk the whole backlog.
WAITING = """(WITH RECURSIVE waiting(topic) AS (
  (SELECT min(topic) FROM messages WHERE NOT settled)
  UNION ALL
  SELECT (SELECT min(topic) FROM messages WHERE NOT settled AND topic>waiting.topic) FROM waiting
  WHERE topic IS NOT NULL
) SELECT topic FROM waiting WHERE topic IS NOT NULL)"""
