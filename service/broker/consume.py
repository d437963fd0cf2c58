"""`gridgov consume`: reads the topics as the sub-centre would, dropping duplicates by the published rule."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import KafkaConsumer
from kafka import errors as kafka

from schemas.event import JOURNAL_ID, JOURNAL_SEQ
from service.broker.connection import connection, unfamiliar
from service.broker.places import LOOK_MS, POLL_MS, RELIED_ON, Change, Notice, Places
from service.broker.topics import ClusterUnreachable
from service.config import Config, ConfigError

SEQ = re.compile(rb"[1-9][0-9]{0,18}")
TEXTS = ("report_id", "case_id", "kind", "category", "stage", "occurred_at")  # that the value has in every edition


class ReadingFailed(Exception):
    """The cluster answers, but this cannot be read on: a topic may not be read, a log is broken."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic; what of it is not UTF-8 is shown with escapes.

    `duplicate`: its journal-seq is not above the highest seen there. `foreign`: why gridgov has not written it; such a
    record is never a duplicate, and its value is no report.
    """

    topic: str
    partition: int
    offset: int
    key: str | None
    value: Any  # what its JSON says; of a foreign record, its text if it is no JSON, or None
    headers: dict[str, str | None]
    duplicate: bool = False
    foreign: str | None = None


class Watermark:
    """The consumer's whole memory for dropping duplicates: one number per (journal-id, topic, partition)."""

    def __init__(self) -> None:
        self._highest: dict[tuple[str, str, int], int] = {}

    def passes(self, journal_id: str, topic: str, partition: int, seq: int) -> bool:
        """Whether this is news, and remember it."""
        place = (journal_id, topic, partition)
        if seq <= self._highest.get(place, 0):
            return False
        self._highest[place] = seq
        return True

    def forget(self, topic: str) -> None:
        """Know nothing of a topic: it was made anew."""
        self._highest = {place: seq for place, seq in self._highest.items() if place[1] != topic}


def consume(
    config: Config,
    topics: Iterable[str],
    *,
    from_beginning: bool,
    idle: float | None,
    patience: float,
    waiting: Callable[[], None],
) -> Iterator[Record | Notice]:
    """Records as they come, over all partitions; ends after `idle` seconds without one, never if None.

    Waits up to `patience` seconds for a first answer, calling `waiting` once; then raises `ClusterUnreachable`. Topics
    and partitions that come later are read from their beginning. Raises `ReadingFailed` when it cannot go on.
    """
    consumer = _connected(config, patience, waiting)
    try:
        if problems := unfamiliar(consumer, RELIED_ON):
            raise ConfigError(problems)
        yield from _read(Places(consumer, topics, from_beginning=from_beginning), idle)
    except kafka.KafkaError as error:
        raise ReadingFailed(f"{type(error).__name__}: {error}") from error
    finally:
        consumer.close(autocommit=False)


def _connected(config: Config, patience: float, waiting: Callable[[], None]) -> Any:
    end = time.monotonic() + patience
    told = False
    while True:
        try:
            return KafkaConsumer(
                **connection(config),
                client_id="gridgov-consume",
                enable_auto_commit=False,
                auto_offset_reset="none",  # a place that is gone is told, never passed over in silence
                metadata_max_age_ms=LOOK_MS,
            )
        except (kafka.KafkaError, OSError) as error:
            if time.monotonic() > end:
                raise ClusterUnreachable(f"{type(error).__name__}: {error}") from error
        if not told:
            waiting()
            told = True


def _read(places: Places, idle: float | None) -> Iterator[Record | Notice]:
    watermark, empty = Watermark(), 0
    while idle is None or empty * POLL_MS < idle * 1000:  # by polls, not by time: a reader that was stopped goes on
        notices, found = places.poll()
        empty = 0 if notices or found else empty + 1
        for notice in notices:
            if notice.what is Change.MADE_ANEW:
                watermark.forget(notice.topic)
            yield notice
        for records in found.values():
            for one in records:
                yield _record(one, watermark)


def _record(one: Any, watermark: Watermark) -> Record:
    value, headers = _json(one.value), dict(one.headers)
    foreign = next(_oddities(one, value), None)
    news = foreign is not None or watermark.passes(
        headers[JOURNAL_ID].decode(), one.topic, one.partition, int(headers[JOURNAL_SEQ])
    )
    return Record(
        topic=one.topic,
        partition=one.partition,
        offset=one.offset,
        key=_shown(one.key),
        value=value,
        headers={name: _shown(raw) for name, raw in headers.items()},
        duplicate=not news,
        foreign=foreign,
    )


def _oddities(one: Any, value: Any) -> Iterator[str]:
    """Why gridgov has not written it; each reason may rest on there being none before it."""
    headers = dict(one.headers)
    yield from (f"header {name!r} is not text" for name, raw in headers.items() if not _is_text(raw))
    if not headers.get(JOURNAL_ID) or JOURNAL_SEQ not in headers:
        yield "no journal-id and journal-seq"
    if not SEQ.fullmatch(headers[JOURNAL_SEQ]):
        yield "journal-seq is no number"
    if one.value is None:
        yield "no value: a tombstone"
    if not _is_report(value):
        yield "its value is no report"
    if one.key != value["case_id"].encode():
        yield "its key is not its case"


def _is_report(value: Any) -> bool:
    """Whether it has what every edition of the contract has, as far as it is shown."""
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in TEXTS):
        return False
    names = (value.get("major_name"), value.get("category_name") or {"zh": ""})
    return all(isinstance(name, dict) and isinstance(name.get("zh"), str) for name in names)


def _is_text(raw: bytes | None) -> bool:
    try:
        return raw is not None and raw.decode() is not None
    except UnicodeDecodeError:
        return False


def _json(raw: bytes | None) -> Any:
    """What it says; its text when it is no JSON, or so deep that it could not be written again."""
    if raw is None:
        return None
    try:
        value = orjson.loads(raw)
        orjson.dumps(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return _shown(raw)
    return value


def _shown(raw: bytes | None) -> str | None:
    return raw if raw is None else raw.decode(errors="backslashreplace")
