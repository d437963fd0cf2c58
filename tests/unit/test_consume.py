"""A consumer by the published rules: one number drops duplicates, what others wrote is marked, lost places are told."""

from __future__ import annotations

import csv
import time
import unicodedata
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka import errors as kafka
from kafka.structs import OffsetAndMetadata

from service.broker import consume as module
from service.broker.consume import ReadingFailed, Record, _read, _record
from service.broker.places import POLL_MS, Change, Notice, Places
from service.broker.topics import ClusterUnreachable
from service.cli import records
from service.cli.main import main
from service.consumer import Watermark

VALUE = orjson.loads((Path(__file__).parents[2] / "schemas" / "examples" / "event.json").read_bytes())
KEY, BYTES = VALUE["case_id"].encode(), orjson.dumps(VALUE)
HEADERS = [("journal-id", b"j"), ("journal-seq", b"7")]


def passed(*records: tuple[str, str, int, int]) -> list[bool]:
    watermark = Watermark()
    return [watermark.passes(*record) for record in records]


def test_what_is_not_above_the_highest_seen_is_a_duplicate() -> None:
    assert passed(*[("j", "t", 0, seq) for seq in (1, 2, 2, 1, 5, 3, 5, 6)]) == [
        *(True, True, False, False),
        *(True, False, False, True),
    ]


def test_each_journal_topic_and_partition_counts_for_itself() -> None:
    assert passed(("j", "t", 0, 9), ("j", "t", 1, 1), ("j", "u", 0, 1), ("k", "t", 0, 1), ("j", "t", 0, 9)) == [
        *(True, True, True, True),
        False,
    ]


@given(
    firsts=st.lists(st.integers(1, 50), unique=True, max_size=20).map(sorted),
    resent=st.lists(st.integers(0, 19), max_size=10),
)
def test_whatever_is_sent_again_every_message_passes_exactly_once(firsts: list[int], resent: list[int]) -> None:
    """As the relay sends: after any place it may begin again at an earlier one, and first deliveries are in order."""
    stream, at = [], 0
    for back in [*resent, 0]:
        upto = min(len(firsts), at + 3)
        stream += firsts[max(0, at - back) : upto]
        at = upto
    stream += firsts[at:]

    news = [seq for seq, new in zip(stream, passed(*[("j", "t", 0, seq) for seq in stream]), strict=True) if new]

    assert news == firsts


def test_of_a_topic_made_anew_nothing_is_known() -> None:
    watermark = Watermark()
    for topic in ("t", "u"):
        watermark.passes("j", topic, 0, 5)

    watermark.forget("t")

    assert watermark.passes("j", "t", 0, 5)
    assert not watermark.passes("j", "u", 0, 5)


# ---- what others wrote ----


def written(**changes: Any) -> SimpleNamespace:
    """A record as the client gives it, ours but for the changes."""
    ours = {"topic": "t", "partition": 0, "offset": 3, "key": KEY, "value": BYTES, "headers": HEADERS}
    return SimpleNamespace(**ours | changes)


def without(name: str) -> bytes:
    return orjson.dumps({key: part for key, part in VALUE.items() if key != name})


def test_what_the_relay_wrote_is_not_foreign() -> None:
    more = [("ce_id", b"r-1"), ("x-of-later", "以后".encode())]

    record = _record(written(headers=[*HEADERS, *more]), Watermark())

    assert (record.foreign, record.duplicate, record.value) == (None, False, VALUE)
    assert record.headers["x-of-later"] == "以后"
    assert _record(written(value=orjson.dumps(VALUE | {"category_name": None})), Watermark()).foreign is None


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": []},
        {"headers": [("journal-seq", b"7")]},
        {"headers": [("journal-id", b""), ("journal-seq", b"7")]},
        *(
            {"headers": [("journal-id", b"j"), ("journal-seq", seq)]}
            for seq in (b"abc", b"", b"0", b"-1", b" 7", b"7_0")
        ),
        {"headers": [("journal-id", b"j"), ("journal-seq", "７".encode())]},
        {"headers": [("journal-id", b"j"), ("journal-seq", b"9" * 5_000)]},
        {"headers": [*HEADERS, ("x", None)]},
        {"headers": [*HEADERS, ("x", b"\xff")]},
        *({"key": key} for key in (None, b"", b"\xff", KEY + b"x")),
        *(
            {"value": value}
            for value in (
                None,
                b"",
                b"hello",
                b"\xff",
                b"[1]",
                b"{}",
                b"1",
                b"null",
                b"[" * 2_000,
                b"[" * 500 + b"]" * 500,
            )
        ),
        *({"value": without(name)} for name in ("report_id", "case_id", "stage", "occurred_at", "major_name")),
        {"value": orjson.dumps(VALUE | {"case_id": 1})},
        {"value": orjson.dumps(VALUE | {"category_name": "x"})},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_what_others_wrote_is_foreign_and_no_duplicate(changes: dict[str, Any]) -> None:
    watermark = Watermark()
    watermark.passes("j", "t", 0, 7)

    record = _record(written(**changes), watermark)

    assert record.foreign
    assert not record.duplicate
    assert shown(record, json=True).exit_code == shown(record).exit_code == 0


RAW = st.none() | st.binary(max_size=20)


@given(
    key=RAW | st.just(KEY),
    value=RAW | st.just(BYTES) | st.recursive(st.none() | st.text(), st.lists).map(orjson.dumps),
    headers=st.lists(st.tuples(st.text(max_size=5) | st.sampled_from(["journal-id", "journal-seq"]), RAW), max_size=4),
)
@example(key=KEY, value=BYTES, headers=HEADERS)
def test_whatever_is_in_a_topic_is_read_and_shown_and_moves_no_watermark(key: Any, value: Any, headers: Any) -> None:
    watermark = Watermark()

    record = _record(written(key=key, value=value, headers=headers), watermark)

    line, told = records.as_line(record), orjson.loads(records.as_json(record))
    assert line.isprintable()
    assert (told.get("foreign"), told["offset"]) == (record.foreign, 3)
    assert record.foreign is None or watermark.passes("j", "t", 0, 1)


# ---- the command ----


def shown(
    *items: Record | Notice | Exception, json: bool = False, duplicates: bool = False, more: str = "", **asked: Any
) -> Result:
    """What `gridgov consume` makes of what its reader gives it; `asked` takes what the reader was asked for."""

    def given(*_: object, **told: Any) -> Iterator[Record | Notice]:
        asked.get("of", {}).update(told)
        told["behind"](7) if "of" in asked else None
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item

    options = ["--json"] * json + ["--duplicates"] * duplicates + more.split()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "consume", given)
        return CliRunner().invoke(main, ["consume", *options], catch_exceptions=False)


OURS = _record(written(), Watermark())
AGAIN = Record(**{name: getattr(OURS, name) for name in OURS.__slots__} | {"duplicate": True})
ALIEN = _record(written(value=b"\x1b[2Jboo"), Watermark())
GAP = Notice(Change.OVERTAKEN, "t", 0, 10, 40)


def test_the_end_counts_each_sort_for_itself() -> None:
    assert shown(OURS, AGAIN, ALIEN, ALIEN, GAP).stderr.splitlines()[-1] == (
        "1 messages, 1 duplicates, 2 foreign, 30 skipped"
    )
    assert shown(OURS, AGAIN, duplicates=True).stderr == "2 messages, 1 duplicates, 0 foreign, 0 skipped\n"


def test_lines_mark_what_is_foreign_and_cannot_steer_the_terminal() -> None:
    ours, alien = shown(OURS, AGAIN, ALIEN).stdout.splitlines()

    assert ours.split("  ")[:3] == [VALUE["occurred_at"], "t[0]@3", VALUE["case_id"]]
    assert alien == f"t[0]@3  {VALUE['case_id']}  foreign: its value is no report  \\x1b[2Jboo"


def test_json_marks_what_is_foreign_and_what_is_no_message_at_all() -> None:
    ours, again, alien, gap = map(
        orjson.loads, shown(OURS, AGAIN, ALIEN, GAP, json=True, duplicates=True).stdout.splitlines()
    )

    assert ours == {
        **{"topic": "t", "partition": 0, "offset": 3, "key": VALUE["case_id"]},
        **{"headers": {"journal-id": "j", "journal-seq": "7"}, "value": VALUE},
    }
    assert again == ours | {"duplicate": True}
    assert alien == ours | {"value": "\x1b[2Jboo", "foreign": "its value is no report"}
    assert gap.pop("text").startswith("30 messages (offsets 10 to 39)")
    assert gap == {"notice": "overtaken", "topic": "t", "partition": 0, "from": 10, "to": 40, "skipped": 30}


def of(**changes: Any) -> Record:
    """A record of ours whose value has these."""
    value = VALUE | changes
    return _record(written(key=value["case_id"].encode(), value=orjson.dumps(value)), Watermark())


def test_csv_has_flat_columns_for_ours_alone_and_nothing_that_a_spreadsheet_would_run() -> None:
    location = {"address": "=HYPERLINK(1), 东", "street_code": "310109018"}
    done = shown(of(location=location), ALIEN, AGAIN, GAP, more="-o csv --duplicates")

    ours, again = csv.DictReader(done.stdout.splitlines())
    assert (ours["address"], ours["street_code"], ours["stage"]) == ("'=HYPERLINK(1), 东", "310109018", VALUE["stage"])
    assert (ours["topic"], ours["journal_seq"], ours["duplicate"], again["duplicate"]) == ("t", "7", "", "yes")
    assert ours["category_zh"] == VALUE["category_name"]["zh"]
    assert "1 foreign" in done.stderr


def test_csv_of_nothing_has_its_head() -> None:
    assert shown(more="-o csv").stdout.startswith("occurred_at,received_at,")


def test_a_table_is_aligned_whatever_is_in_it() -> None:
    records = [
        of(),
        of(supervision="none"),
        of(category_name={"zh": "很" * 40, "en": "x"}),
        of(location={"address": "\x1b"}),
    ]
    head, _, *lines = shown(*records, more="-o table").stdout.splitlines()

    def column(line: str, at: int) -> str:
        """What begins at a column of the terminal, where a Chinese character takes two."""
        return "".join(char * (1 + (unicodedata.east_asian_width(char) in "WF")) for char in line)[at:]

    stage = head.index("stage")
    assert [column(line, stage)[:4] for line in lines] == ["上上报报"] * 4
    assert [column(line, stage - 1)[0] for line in lines] == [" "] * 4
    assert lines[0].startswith("2020-11-04 08:00:00  202011040002")
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", ["a", "b", "alien"]),
        ("--case a", ["a"]),
        ("--case a --case b", ["a", "b"]),
        ("--category 02", ["b"]),
        ("--category 0404 --category 0211", ["a", "b"]),
        ("--kind incident", []),
        ("--kind repair --category 04", ["a"]),
    ],
)
def test_only_what_is_asked_for_is_shown_and_counted(options: str, wanted: list[str]) -> None:
    given = of(case_id="a"), of(case_id="b", category="0211"), _record(written(key=b"alien"), Watermark())

    done = shown(*given, more=options)

    assert [line.split("  ")[2 if "foreign" not in line else 1] for line in done.stdout.splitlines()] == wanted
    assert done.stderr.startswith(f"{len(set(wanted) - {'alien'})} messages")


@pytest.mark.parametrize(
    ("options", "follow"),
    [("", True), ("--no-follow", False), ("--since 1h", False), ("--since 1h -f", True), ("--from-beginning", True)],
)
def test_what_is_past_ends_and_what_comes_is_followed(options: str, *, follow: bool) -> None:
    asked: dict[str, Any] = {}
    done = shown(OURS, more=options, of=asked)

    assert asked["follow"] is follow
    assert done.stderr.endswith(", 7 behind\n")


@pytest.mark.parametrize(("told", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("3d", 259_200)], ids=str)
def test_since_may_be_so_long_ago(told: str, seconds: int) -> None:
    asked: dict[str, Any] = {}
    shown(more=f"--since {told}", of=asked)

    assert abs(time.time() - seconds - asked["since_ms"] / 1000) < 60


@pytest.mark.parametrize("told", ["2020-11-04", "2020-11-04T00:00:00", "2020-11-03T16:00:00Z"])
def test_since_may_be_a_moment_of_the_districts_clocks(told: str) -> None:
    asked: dict[str, Any] = {}
    shown(more=f"--since {told}", of=asked)

    assert asked["since_ms"] == 1_604_419_200_000


def test_what_is_no_time_is_told_with_examples() -> None:
    done = shown(more="--since yesterday")

    assert done.exit_code == 2
    assert "15m" in done.stderr


@pytest.mark.parametrize("what", Change)
def test_every_change_has_words(what: Change) -> None:
    told = shown(Notice(what, "t", 2, 10, 11, "why")).stderr

    assert told.startswith("t[2] ")
    assert "{" not in told


@pytest.mark.parametrize("error", [ClusterUnreachable("gone"), ReadingFailed("TopicAuthorizationFailedError: t")])
def test_what_ends_it_is_told_in_a_line(error: Exception) -> None:
    done = shown(OURS, error)

    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == len(done.stderr.splitlines()) == 1
    assert str(error) in done.stderr


# ---- places ----


class Log:
    """A consumer of one partition, whose polls do as they are told: records, or an error."""

    PLACE = TopicPartition("t", 0)

    def __init__(self, *polls: Any, begin: Any = 0) -> None:
        self._polls, self._begin = deque(polls), begin
        self.sought: list[int | str] = []
        self._cluster = SimpleNamespace(
            add_listener=lambda _: None,
            partitions_for_topic=lambda _: {0},
            topic_id=lambda _: "one",
            topics=lambda: {"t"},
        )
        self._fetcher = SimpleNamespace(_next_partition_records=None)
        self._assigned: set[TopicPartition] = set()

    def topics(self) -> set[str]:
        return {"t"}

    def assignment(self) -> set[TopicPartition]:
        return self._assigned

    def assign(self, places: list[TopicPartition]) -> None:
        self._assigned = set(places)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.sought.append(offset)

    def seek_to_beginning(self, *places: TopicPartition) -> None:
        self.sought.append("beginning")

    def beginning_offsets(self, places: list[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        if isinstance(self._begin, Exception):
            raise self._begin
        return dict.fromkeys(places, self._begin)

    def highwater(self, place: TopicPartition) -> int | None:
        return None

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        one = self._polls.popleft() if self._polls else []
        if isinstance(one, Exception):
            raise one
        return {self.PLACE: one} if one else {}


def looked_at(log: Log) -> tuple[list[Notice], list[int | str]]:
    """What one poll tells, and where it went."""
    places = Places(log, ["t"], from_beginning=True)
    log.sought.clear()
    notices, _ = places.poll()
    return notices, log.sought


def test_of_a_place_that_was_overtaken_the_earliest_is_next() -> None:
    gone = kafka.OffsetOutOfRangeError({Log.PLACE: 10})

    assert looked_at(Log(gone, begin=40)) == ([Notice(Change.OVERTAKEN, "t", 0, 10, 40)], [40])


def test_of_a_place_beyond_the_end_the_earliest_is_next() -> None:
    gone = kafka.OffsetOutOfRangeError({Log.PLACE: 10})

    assert looked_at(Log(gone, begin=4)) == ([Notice(Change.CUT, "t", 0, 10, 10)], [4])


@pytest.mark.parametrize(
    ("found", "at", "sought"), [(OffsetAndMetadata(7, "", 2), 7, 7), (None, 0, "beginning")], ids=["known", "unknown"]
)
def test_a_log_that_lost_its_tail_is_read_from_there(found: Any, at: int, sought: int | str) -> None:
    cut = kafka.LogTruncationError({Log.PLACE: found})

    assert looked_at(Log(cut)) == ([Notice(Change.CUT, "t", 0, at, at)], [sought])


def test_where_the_cluster_cannot_be_asked_the_place_stays_until_it_can() -> None:
    gone = kafka.OffsetOutOfRangeError({Log.PLACE: 10})
    log = Log(gone, gone, begin=kafka.KafkaTimeoutError())
    places = Places(log, ["t"], from_beginning=True)
    assert places.poll() == ([], {})

    log._begin = 40

    assert places.poll()[0] == [Notice(Change.OVERTAKEN, "t", 0, 10, 40)]


def test_what_is_broken_and_nobody_knows_where_ends_it() -> None:
    with pytest.raises(kafka.CorruptRecordError):
        looked_at(Log(kafka.CorruptRecordError("?")))


def test_a_reader_ends_after_so_many_empty_polls_however_long_it_was_stopped() -> None:
    log = Log(*[[]] * 3, [written()], *[[]] * 40)

    items = list(_read(Places(log, ["t"], from_beginning=True), idle=4 * POLL_MS / 1000))

    assert [type(item) for item in items] == [Record]
    assert len(log._polls) == 36
