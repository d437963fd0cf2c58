"""`gridgov consume`: reads the topics as the sub-centre would, dropping duplicates by the published rule."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka

from schemas.event import JOURNAL_ID, JOURNAL_SEQ
from service.broker.connection import connection, obstacle, unfamiliar
from service.broker.places import LOOK_MS, POLL_MS, RELIED_ON, Change, Notice, Places
from service.broker.topics import ClusterUnreachable
from service.config import Config, ConfigError
from service.consumer import Watermark
from service.consumer.report import oddities


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


def consume(
    config: Config,
    topics: Iterable[str],
    *,
    from_beginning: bool,
    idle: float | None,
    patience: float,
    waiting: Callable[[], None],
    since_ms: int | None = None,
    follow: bool = True,
    behind: Callable[[int], None] = lambda _: None,
) -> Iterator[Record | Notice]:
    """Records as they come, over all partitions; ends after `idle` seconds without one, never if None.

    `since_ms`: begin with what was published then (epoch ms). Without `follow` it ends where the topics ended when it
    began. `behind` is told after each poll how many records are left.
    Waits up to `patience` seconds for a first answer, calling `waiting` once; then raises `ClusterUnreachable`. Topics
    and partitions that come later are read from their beginning. Raises `ReadingFailed` when it cannot go on.
    """
    consumer = _connected(config, patience, waiting)
    try:
        if problems := unfamiliar(consumer, RELIED_ON):
            raise ConfigError(problems)
        places = Places(consumer, topics, from_beginning=from_beginning, since_ms=since_ms)
        yield from _read(places, idle, until=None if follow else places.ends(), behind=behind)
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
                raise ClusterUnreachable(f"{type(error).__name__}: {error}", obstacle(config)) from error
        if not told:
            waiting()
            told = True


def _read(
    places: Places,
    idle: float | None,
    *,
    until: Mapping[TopicPartition, int] | None = None,
    behind: Callable[[int], None] = lambda _: None,
) -> Iterator[Record | Notice]:
    watermark, empty = Watermark(), 0
    while idle is None or empty * POLL_MS < idle * 1000:  # by polls, not by time: a reader that was stopped goes on
        if until is not None and places.reached(until):
            return
        notices, found = places.poll()
        empty = 0 if notices or found else empty + 1
        for notice in notices:
            if notice.what is Change.MADE_ANEW:
                watermark.forget(notice.topic)
            yield notice
        for records in found.values():
            for one in records:
                yield _record(one, watermark)
        behind(places.behind())


def _record(one: Any, watermark: Watermark) -> Record:
    value, headers = _json(one.value), dict(one.headers)
    foreign = next(oddities(one.key, one.value, headers, value), None)
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
