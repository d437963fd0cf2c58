"""What clients were promised against what Kafka holds: the judge of every outage test. Imports nothing of ours.

A client writes down each report before its first post and each 202 when it has it (`Ledger`); `check` compares that
file with a full read of the topics. A report without a 202 may be there or not, but not twice.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition

ADDED = {  # what the service may put into a value beside what was sent
    *("received_at", "flags", "catalogue_edition", "category_name", "major_name", "supervision"),
}
Json = dict[str, Any]


class Ledger:
    """A client's own book on disk: what it sent, in order, and what it was promised. Any thread may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()

    def sent(self, report: Json) -> None:
        """Before the first post of a report; a case's reports in the order they are sent."""
        self._write({"sent": report})

    def accepted(self, receipt: Json) -> None:
        """The body of a 202, or at least its `report_id`."""
        self._write({"accepted": receipt})

    def read(self) -> tuple[dict[str, Json], dict[str, list[Json]]]:
        """Report by id in the order sent, and all receipts by id."""
        sent: dict[str, Json] = {}
        accepted: dict[str, list[Json]] = defaultdict(list)
        with self._writing:  # or the last line may be half there
            lines = self.path.read_bytes().splitlines()
        for line in lines:
            [(what, value)] = orjson.loads(line).items()
            if what == "sent":
                sent.setdefault(value["report_id"], value)
            else:
                accepted[value["report_id"]].append(value)
        return sent, accepted

    def _write(self, line: Json) -> None:
        with self._writing, self.path.open("ab") as file:
            file.write(orjson.dumps(line) + b"\n")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    key: str
    headers: Mapping[str, str]
    value: Json

    @property
    def report_id(self) -> str:
        return self.headers["ce_id"]

    @property
    def seq(self) -> int:
        return int(self.headers["journal-seq"])

    @property
    def place(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset


@dataclass(slots=True)
class Verdict:
    """`problems` is empty when every promise was kept; `duplicates` counts the records a consumer drops, by topic."""

    problems: list[str] = field(default_factory=list)
    distinct: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)


def read_topics(bootstrap: str, prefix: str) -> list[Record]:
    """Every record whose `ce_id` starts with `prefix`, from every topic of the cluster, up to its end as of now."""
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, **options)) as consumer:
        names = [name for name in consumer.topics() if name.startswith("gridgov.")]
        places = [TopicPartition(name, one) for name in names for one in consumer.partitions_for_topic(name)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            for records in consumer.poll(timeout_ms=1000).values():
                found += [_record(one) for one in records]
    return [one for one in found if one.headers.get("ce_id", "").startswith(prefix)]


def _record(raw: Any) -> Record:
    headers = {name: value.decode() for name, value in raw.headers}
    return Record(raw.topic, raw.partition, raw.offset, raw.key.decode(), headers, orjson.loads(raw.value))


def check(ledger: Ledger, records: Iterable[Record], *, excused: Container[str] = ()) -> Verdict:
    """Nothing promised is missing, nothing is there twice, order per case is kept, content is what was sent.

    `excused`: ids that Kafka had acknowledged before somebody deleted their topic; they may be absent.
    """
    sent, accepted = ledger.read()
    verdict = Verdict()
    held = sorted(records, key=lambda record: record.place)
    news = list(_news(held, verdict))
    times = Counter(record.report_id for record in news)
    copies = defaultdict(list)
    for record in held:
        copies[record.report_id].append(record)
    verdict.distinct = len(times)
    verdict.problems += [f"{one}: promised and missing" for one in accepted if one not in times and one not in excused]
    verdict.problems += [f"{one}: {many} times after the watermark" for one, many in times.items() if many > 1]
    verdict.problems += [f"{one}: never sent" for one in {*times, *accepted} - sent.keys()]
    for record in news:
        if record.report_id in sent:
            verdict.problems += _differences(sent[record.report_id], record)
    for report_id, receipts in accepted.items():
        if copies[report_id]:
            verdict.problems += _unlike_their_receipt(receipts, copies[report_id])
    verdict.problems += _disorder(sent, news)
    return verdict


def _news(held: Sequence[Record], verdict: Verdict) -> Iterator[Record]:
    """What a consumer keeps that remembers one number per (journal, topic, partition); the rest must be copies."""
    seen: dict[tuple[str, str, int], dict[int, Record]] = defaultdict(dict)
    for record in held:
        before = seen[record.headers["journal-id"], record.topic, record.partition]
        if record.seq > max(before, default=0):
            yield record
        else:
            verdict.duplicates[record.topic] += 1
            first = before.get(record.seq)
            if first is None or (first.key, first.value) != (record.key, record.value):
                verdict.problems.append(f"{record.report_id}: dropped as a duplicate, and is none")
            elif int(first.headers["attempt"]) >= int(record.headers["attempt"]):
                verdict.problems.append(f"{record.report_id}: a second copy under the same attempt")
        before[record.seq] = record


def _differences(report: Json, record: Record) -> Iterator[str]:
    headers = {
        "ce_id": report["report_id"],
        "ce_type": f"gridgov.{report['kind']}.{report['stage']}",
        "ce_specversion": "1.0",
        "content-type": "application/json",
    }
    wrong = [name for name, text in headers.items() if record.headers.get(name) != text]
    wrong += [name for name, value in report.items() if not _same(name, value, record.value.get(name))]
    wrong += [name for name in record.value if name not in report and name not in ADDED]
    if record.key != report["case_id"]:
        wrong.append("key")
    if wrong:
        yield f"{record.report_id}: not as it was sent: {', '.join(wrong)}"


def _same(name: str, sent: Any, held: Any) -> bool:
    if name == "occurred_at":  # may be written in another way, but must be the same moment
        return held is not None and datetime.fromisoformat(sent) == datetime.fromisoformat(held)
    return bool(sent == held)


def _unlike_their_receipt(receipts: Sequence[Json], copies: Sequence[Record]) -> Iterator[str]:
    """Every receipt of a report must repeat the first, and be true of what is in Kafka."""
    for receipt in receipts:
        name = receipt["report_id"]
        truth = [{"topic": one.topic, "received_at": one.value["received_at"], "case_id": one.key} for one in copies]
        if any(receipt.get(key, value) != value for one in truth for key, value in one.items()):
            yield f"{name}: its receipt tells {receipt}, Kafka {truth}"
        if "offset" in receipt:
            place = (receipt["topic"], receipt["partition"], receipt["offset"])
            if place not in [one.place for one in copies]:
                yield f"{name}: its receipt points to {place}, where it is not"


def _disorder(sent: Iterable[str], news: Sequence[Record]) -> Iterator[str]:
    """Per topic and case: in one partition only, and in the order sent."""
    rank = {report_id: number for number, report_id in enumerate(sent)}
    cases: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in news:
        cases[record.topic, record.key].append(record)
    for (topic, case), found in cases.items():
        order = [rank[record.report_id] for record in found if record.report_id in rank]
        if order != sorted(order):
            yield f"case {case} of {topic}: out of order: {[record.report_id for record in found]}"
        if len({record.partition for record in found}) > 1:
            yield f"case {case} of {topic}: in more than one partition"
