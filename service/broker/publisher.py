"""The Kafka side of the relay: an idempotent producer that stops dead at its first failure.

Order is kept because nothing later can overtake what failed: there is no delivery timeout worth the name (a batch
that expires lets its successors pass), and the first permanent failure of any batch ends the producer before it
sends another one. The relay then settles what was delivered and builds a new producer from the lowest message that
was not.
"""

import logging
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import repeat
from struct import Struct
from typing import Any

from kafka import KafkaProducer
from kafka import errors as kafka
from kafka.structs import TopicPartition

from service.broker import batches
from service.broker.batches import ErrorOf, Record, hand_over
from service.broker.connection import connection, unfamiliar
from service.broker.records import Bodies
from service.config import Config, ConfigError
from service.ports import (
    Delivery,
    Failure,
    ParkReason,
    PauseReason,
    Pending,
    PublisherBroken,
    RecordRefused,
    TopicUnavailable,
)

log = logging.getLogger(__name__)

# Whose fault a permanent failure is. What is not listed is nobody's in particular: back off, build a new producer.
RECORD_FAULTS: dict[type[BaseException], ParkReason] = {
    kafka.MessageSizeTooLargeError: ParkReason.RECORD_TOO_LARGE,
    kafka.RecordListTooLargeError: ParkReason.RECORD_TOO_LARGE,
    kafka.InvalidRecordError: ParkReason.RECORD_REFUSED,
}
SPLIT_TO_ONE: tuple[type[BaseException], ...] = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
)  # the client splits before it fails
TOPIC_FAULTS: dict[type[BaseException], PauseReason] = {
    kafka.TopicAuthorizationFailedError: PauseReason.UNAUTHORISED,
    kafka.UnknownTopicOrPartitionError: PauseReason.MISSING,
    kafka.InvalidTopicError: PauseReason.MISSING,
    kafka.PolicyViolationError: PauseReason.UNAUTHORISED,
    kafka.InvalidTimestampError: PauseReason.CLOCK_WRONG,  # an hour ahead of the broker: no record is to blame
}
METADATA_WAIT_MS = 500  # send() blocks this long at most when a topic has just vanished; the topic watch comes first
NEVER_EXPIRE_MS = 2**31 - 1
NOT_READY_MS = 50
MOST_BYTES, FRAMING = 1 << 20, 100  # of a request; of a batch around a record that is alone in it

# What is used of the client that is not public, and what would break without it: an assignment to a name that a later
# version does not read never fails. So each is looked at when the relay starts (`unfamiliar`).
RELIED_ON = {
    "_metadata.need_all_topic_metadata": "a new producer would ask for its topics one after the other",
    "_metadata.request_update": "waiting for a leader would take a whole core",
    "_metadata.need_update": "waiting for a leader would take a whole core",
    "_metadata._future": "waiting for a leader would take a whole core",
    "_sender.force_close": "what must not overtake a failed batch would still be sent",
    "_sender.join": "what was sent last would not be known when a producer is closed",
    "_sender.wakeup": "what was handed over would stay behind",
    "_accumulator._tp_lock": "nothing could be handed over as a batch",
    "_accumulator._batches": "nothing could be handed over as a batch",
    "_accumulator._incomplete.add": "nothing could be handed over as a batch",
    "_accumulator._closed": "what is handed over to a client that has ended would be waited for",
    "_accumulator._appends_in_progress.increment": "what is handed over to a client that ends would be waited for",
    "_sender._client.connection_delay": "waiting for a broker would take a whole core",
    "_sender._get_expired_inflight_batches": "each partition would be looked at in vain, at every turn of the client's",
    "_accumulator.expired_batches": "each partition would be looked at in vain, at every turn of the client's",
}


class Producer(KafkaProducer):  # type: ignore[misc]  # the client has no types
    """kafka-python's, but for its end: collected, it would mute the log of every producer to come, closed or not."""

    def __del__(self) -> None:
        """Nothing: `KafkaPublisher.close` has ended it."""

    def __str__(self) -> str:
        """What the client puts before each line of its log; worked out for every record, also where nobody logs."""
        return "gridgov's producer"


def partition_of(key: bytes | None, partitions: Collection[int]) -> int:
    """Where a case goes, as every Kafka client chooses by key."""
    return _hash(key or b"") % len(partitions)


@lru_cache(1 << 16)
def _hash(key: bytes) -> int:
    """Murmur2, by words of four bytes: the client's, byte by byte, costs twice as much."""
    whole = len(key) & ~3
    h = 0x9747B28C ^ len(key)
    for (word,) in _WORD.iter_unpack(key[:whole]):
        k = word * _M & 0xFFFFFFFF
        h = (h * _M ^ (k ^ k >> 24) * _M) & 0xFFFFFFFF
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & 0xFFFFFFFF
    h = (h ^ h >> 13) * _M & 0xFFFFFFFF
    return (h ^ h >> 15) & 0x7FFFFFFF


_WORD, _M = Struct("<I"), 0x5BD1E995


def check_client() -> None:
    """Raise `ConfigError` when another client is installed than the one we know. No broker is asked."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a connection that is refused the client never closes
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        producer: Any = Producer(bootstrap_servers=[address], api_version=(3, 0), enable_idempotence=False)
        try:
            problems = unfamiliar(producer, RELIED_ON) + unfamiliar(batches.plain(), batches.RELIED_ON)
            if problems:
                raise ConfigError(problems)
        finally:
            producer.close(timeout=1)


class KafkaPublisher:
    """One producer from its birth to its first failure. Raises `PublisherBroken` when no broker answers.

    `wake` is called from the client's thread whenever there is news.
    """

    def __init__(self, config: Config, *, journal_id: str, wake: Callable[[], None]) -> None:
        self._bodies = Bodies(journal_id.encode())
        self._wake = wake
        self._open: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)  # sent, and not pushed yet
        self._partitions: dict[str, Collection[int]] = {}  # by topic, until the next push
        self._delivered: deque[Delivery] = deque()
        self._failure: Failure | None = None
        self._closed = False
        try:
            self._producer: Any = Producer(
                **connection(config),
                client_id="gridgov-relay",
                acks="all",
                enable_idempotence=True,
                delivery_timeout_ms=NEVER_EXPIRE_MS,
                max_block_ms=METADATA_WAIT_MS,
                max_request_size=MOST_BYTES,
                batch_size=batches.MOST_BYTES,
                linger_ms=0,
                metadata_max_age_ms=30_000,
                metrics_enabled=False,  # the client's own: nobody asks, and each batch costs 0.1 ms
            )
        except (kafka.KafkaError, OSError) as error:
            raise PublisherBroken(_text(error)) from error
        # Ask for all topics in one go. Asked for by name, each costs a new producer 100 ms, one after the other, and a
        # broker may create what is missing: 3.0.12 loses both `retry_backoff_ms` and `allow_auto_create_topics`.
        self._producer._metadata.need_all_topic_metadata = True
        self._producer._sender._get_expired_inflight_batches = lambda now: []  # noqa: ARG005  # nothing ever expires
        self._producer._accumulator.expired_batches = lambda now: []  # noqa: ARG005
        _calm(self._producer)

    def send(self, message: Pending) -> None:
        """See `ports.Publisher.send`."""
        if self._failure is not None or self._closed:
            raise PublisherBroken(self._failure.error if self._failure else "closed")
        key = message.case_id.encode()
        body = self._body(message, key)
        partitions = self._partitions.get(message.topic) or self._ask_partitions(message)
        self._open[message.topic, partition_of(key, partitions)].append((message.seq, body))

    def push(self) -> None:
        """See `ports.Publisher.push`."""
        self._partitions.clear()  # a topic may have more of them next time
        places, self._open = self._open, defaultdict(list)
        for place, records in places.items():
            if self._failure is not None:  # nothing may come behind it
                break
            try:
                hand_over(self._producer._accumulator, TopicPartition(*place), records, self._told)
            except Exception as error:  # noqa: BLE001  # told by `failure`
                self._erred(records[0][0], error)
        self._producer._sender.wakeup()

    def _ask_partitions(self, message: Pending) -> Collection[int]:
        """Of its topic; may wait for the client to hear of it."""
        try:
            partitions: Collection[int] = self._producer.partitions_for(message.topic)
        except kafka.KafkaTimeoutError as error:
            raise TopicUnavailable(message.topic) from error
        except Exception as error:
            self._erred(message.seq, error)
            raise PublisherBroken(_text(error)) from error
        if not partitions:
            raise TopicUnavailable(message.topic)
        self._partitions[message.topic] = partitions
        return partitions

    def _erred(self, seq: int, error: Exception) -> None:
        """Of its own mistakes the client tells with any error: none is a record's fault."""
        log.warning("client failed", exc_info=not isinstance(error, kafka.KafkaError))
        self._note(seq, error)

    def deliveries(self) -> list[Delivery]:
        """See `ports.Publisher.deliveries`."""
        told = []
        while self._delivered:
            told.append(self._delivered.popleft())
        return told

    def failure(self) -> Failure | None:
        """See `ports.Publisher.failure`."""
        return self._failure

    def close(self) -> None:
        """See `ports.Publisher.close`."""
        self._closed = True
        self._halt()
        self._producer._sender.join(10)
        with suppress(kafka.KafkaError):  # nothing is left to flush; this lets go of the client's own resources
            self._producer.close(timeout=0)

    def _halt(self) -> None:
        """End the sender thread before it sends another batch; from its own callbacks too.

        `close(timeout=0)` is no way to do this: it raises from its flush and leaves the sender running (3.0.12).
        """
        self._producer._sender.force_close()

    def _body(self, message: Pending, key: bytes) -> bytes:
        """Raises `RecordRefused` when the row is damaged: what is no bytes never becomes a record. Or too large."""
        if not (isinstance(message.value, bytes) and isinstance(message.headers, bytes)):
            raise RecordRefused(ParkReason.RECORD_REFUSED, "no bytes where a record has them: a damaged row")
        body = self._bodies.body(message.seq, message.attempt, key, message.value, message.headers)
        if len(body) + FRAMING > MOST_BYTES:
            raise RecordRefused(ParkReason.RECORD_TOO_LARGE, f"{len(body)} bytes, a request takes {MOST_BYTES}")
        return body

    def _told(self, seqs: Sequence[int], partition: int, offsets: Iterable[int], error_of: ErrorOf | None) -> None:
        if error_of is None:
            self._delivered.extend(map(Delivery, seqs, repeat(partition), offsets, repeat(int(time.time() * 1000))))
        else:
            for n, seq in enumerate(seqs):
                self._note(seq, error_of(n))
            self._halt()
        self._wake()

    def _note(self, seq: int, error: BaseException) -> None:
        refused, paused = RECORD_FAULTS.get(type(error)), TOPIC_FAULTS.get(type(error))
        met = Failure(
            seq,
            error=type(error).__name__,
            detail=_text(error),
            refused=refused,
            alone=isinstance(error, SPLIT_TO_ONE),
            paused=paused,
        )
        # What comes after the first one are batches given up by the halt. But who stands before a refused record in its
        # batch fails earlier, without a reason.
        if self._failure is None or (met.explained and not self._failure.explained):
            self._failure = met


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _calm(producer: Any) -> None:
    """Keep the client from spinning, a whole core, while it waits for a broker (3.0.12); news end a wait at once.

    Of a broker that is connecting, or has not answered five requests, it is told to ask again in 0 ms (or in seconds
    where it takes milliseconds); while a partition has no leader, asking for metadata once more wakes itself.
    """
    metadata = producer._metadata
    ask = metadata.request_update

    def ask_once() -> Any:
        asked = metadata._future
        return asked if metadata.need_update and asked is not None and not asked.is_done else ask()

    metadata.request_update = ask_once
    producer._sender._client.connection_delay = lambda node_id: NOT_READY_MS  # noqa: ARG005
