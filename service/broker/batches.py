"""What the Kafka client's thread is given: for each partition a batch whose records are made, and told of, in one go.

By the client's own way each record costs thirty small writes, a future with a lock, and two callbacks: 20 µs of Python.
Here it is a join of its parts (Kafka's format of version 2), and one call tells what became of all of a batch's.
The frame of the batch, its checksum, its numbers for idempotence and its way to the broker are the client's.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import count, repeat
from typing import Any, NamedTuple, TypeVar

from kafka import errors as kafka
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import encode_varint
from kafka.structs import TopicPartition

K = TypeVar("K")

MOST_BYTES = 256 * 1024  # of a batch, unless one record alone has more

# What is used of the client that is not public, as `RELIED_ON` in the publisher.
RELIED_ON = {
    "produce_future.add_callback": "nobody would know what became of a batch",
    "_record_futures": "nobody would know what became of a batch that the client splits",
    "records._next_offset": "a batch would not know how many records it has",
    "records._builder._buffer": "records could not be written in one go",
    "records._builder._num_records": "records could not be written in one go",
    "records._builder._last_offset": "records could not be written in one go",
    "records._builder._first_timestamp": "records could not be written in one go",
    "records._builder._max_timestamp": "records could not be written in one go",
}

NOT_TOLD = -1  # an offset

ErrorOf = Callable[[int], BaseException]  # of those that failed together, each one's by its place among them
Told = Callable[[Sequence[int], int, Iterable[int], ErrorOf | None], None]  # seqs, partition, offsets, or the errors


class Record(NamedTuple):
    """A message as Kafka will have it."""

    seq: int
    body: bytes  # all but its place in a batch, as it is written

    @classmethod
    def of(cls, seq: int, key: bytes | None, value: bytes, headers: Collection[tuple[str, bytes]]) -> "Record":
        parts = [_NULL] if key is None else [_NUMBERS[len(key)], key]
        parts += (_NUMBERS[len(value)], value, _NUMBERS[len(headers)])
        for name, text in headers:
            parts += (_NAMES[name], _NUMBERS[len(text)], text)
        return cls(seq, b"".join(parts))


class Batch(ProducerBatch):  # type: ignore[misc]  # the client has no types
    """Records for one partition. `told` is called once for each of them, from the client's thread."""

    def __init__(self, place: TopicPartition, told: Told) -> None:
        super().__init__(place, Records(2, 0, MOST_BYTES))
        self._seqs: list[int] = []
        self._record_futures = _Parts(self._seqs, place.partition, told)
        self.produce_future.add_callback(partial(_tell, told, self._seqs, place.partition, 0))

    def add(self, record: Record, now_ms: int) -> bool:
        """False: it is full, or on its way."""
        added = self.records.add(record, now_ms)
        if added:
            self._seqs.append(record.seq)
        return bool(added)


class Records(MemoryRecordsBuilder):  # type: ignore[misc]  # the client has no types
    """The client's, which takes a record as a whole. All that is set here are slots: another name would raise."""

    _next_offset: int

    def add(self, record: Record, now_ms: int) -> bool:
        """False: no more fits in, or it is closed."""
        if self._closed:
            return False
        builder, offset = self._builder, self._next_offset
        if offset == 0:
            builder._first_timestamp = builder._max_timestamp = now_ms
        place = b"\0" + _NUMBERS[now_ms - builder._first_timestamp] + _NUMBERS[offset]
        head = _NUMBERS[len(place) + len(record.body)] + place
        if offset and len(builder._buffer) + len(head) + len(record.body) > MOST_BYTES:
            return False
        builder._buffer += head
        builder._buffer += record.body
        builder._max_timestamp = max(builder._max_timestamp, now_ms)
        builder._num_records = self._next_offset = offset + 1
        builder._last_offset = offset
        return True

    def append(self, *_: Any) -> None:
        """No: a record that comes by the client's own way begins a batch of the client's."""


class _Parts(Sequence["_Part"]):
    """The records of a batch, one by one: as such the client hands them to others when it splits the batch."""

    def __init__(self, seqs: Sequence[int], partition: int, told: Told) -> None:
        self._seqs, self._partition, self._told = seqs, partition, told

    def __len__(self) -> int:
        return len(self._seqs)

    def __getitem__(self, n: int) -> Any:  # type: ignore[override]  # of a slice nobody asks
        return _Part(partial(_tell, self._told, [self._seqs[n]], self._partition))


class _Part(NamedTuple):
    tell: Callable[..., None]

    def rebind(self, future: Any, place: int) -> None:
        """From now on it is told of with that batch, as the record at this place."""
        future.add_callback(partial(self.tell, place))


def _tell(told: Told, seqs: Sequence[int], partition: int, place: int, result: Any) -> None:
    first, _, error_of = result
    if error_of is not None:
        told(seqs, partition, (), lambda n: error_of(place + n))
    else:  # a broker that has them from an earlier attempt does not tell where
        told(seqs, partition, repeat(NOT_TOLD) if first == NOT_TOLD else count(first + place), None)


def hand_over(accumulator: Any, place: TopicPartition, records: Iterable[Record], told: Told) -> None:
    """Leave them, in order, where the client's thread will find them; it is not woken. Raises when it has ended."""
    now_ms = int(time.time() * 1000)
    accumulator._appends_in_progress.increment()  # who ends the client waits for us
    try:
        with accumulator._tp_lock(place):
            if accumulator._closed:
                raise kafka.IllegalStateError("the client is closed")
            queue = accumulator._batches[place]
            for record in records:
                if queue and isinstance(queue[-1], Batch) and queue[-1].add(record, now_ms):
                    continue
                batch = Batch(place, told)
                batch.add(record, now_ms)
                queue.append(batch)
                accumulator._incomplete.add(batch)
    finally:
        accumulator._appends_in_progress.decrement()


def plain() -> ProducerBatch:
    """A batch of the client's own, for a look at what it has."""
    return ProducerBatch(TopicPartition("topic", 0), MemoryRecordsBuilder(2, 0, MOST_BYTES))


class _Written(dict[K, bytes]):
    """How something is written in a record, worked out once: it is done by the byte, and they are few."""

    def __init__(self, write: Callable[[K], bytes]) -> None:
        super().__init__()
        self._write = write

    def __missing__(self, what: K) -> bytes:
        written = self[what] = self._write(what)
        return written


def _number(number: int) -> bytes:
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


_NUMBERS = _Written(_number)
_NULL = _number(-1)  # for the length of what is not there
_NAMES = _Written[str](lambda name: _number(len(name.encode())) + name.encode())
