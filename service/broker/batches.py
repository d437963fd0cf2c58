"""What the Kafka client's thread is given: for each partition a batch whose records are made, and told of, in one go.

By the client's own way each record costs thirty small writes, a future with a lock, and two callbacks: 20 µs of Python.
Here all of a partition are joined at once, and one call tells what became of all of a batch's.
The frame of the batch, its checksum, its numbers for idempotence and its way to the broker are the client's.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count, repeat
from typing import Any, NamedTuple

from kafka import errors as kafka
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

from service.broker.records import NUMBERS

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
Record = tuple[int, bytes]  # its seq; all but its place in a batch, as it is written (`records`)


class Batch(ProducerBatch):  # type: ignore[misc]  # the client has no types
    """Records for one partition. `told` is called once for each of them, from the client's thread."""

    def __init__(self, place: TopicPartition, told: Told) -> None:
        super().__init__(place, Records(2, 0, MOST_BYTES))
        self._seqs: list[int] = []
        self._record_futures = _Parts(self._seqs, place.partition, told)
        self.produce_future.add_callback(partial(_tell, told, self._seqs, place.partition, 0))

    def add(self, records: Sequence[Record], now_ms: int) -> int:
        """How many of them it takes, from the first on; none when it is full, or on its way."""
        taken: int = self.records.add(records, now_ms)
        self._seqs += [seq for seq, _ in records[:taken]]
        return taken


class Records(MemoryRecordsBuilder):  # type: ignore[misc]  # the client has no types
    """The client's, which takes many records at once. All that is set here are slots: another name would raise."""

    _next_offset: int

    def add(self, records: Sequence[Record], now_ms: int) -> int:
        """How many of them it takes, from the first on; none when no more fits in, or it is closed."""
        if self._closed:
            return 0
        builder, first, parts = self._builder, self._next_offset, list[bytes]()
        if first == 0:
            builder._first_timestamp = builder._max_timestamp = now_ms
        when = b"\0" + NUMBERS[now_ms - builder._first_timestamp]
        offset, size = first, len(builder._buffer)
        for _, body in records:
            place = when + NUMBERS[offset]
            head = NUMBERS[len(place) + len(body)] + place
            size += len(head) + len(body)
            if offset and size > MOST_BYTES:
                break
            parts += (head, body)
            offset += 1
        if parts:
            builder._buffer += b"".join(parts)
            builder._max_timestamp = max(builder._max_timestamp, now_ms)
            builder._num_records = self._next_offset = offset
            builder._last_offset = offset - 1
        return offset - first

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


def hand_over(accumulator: Any, place: TopicPartition, records: Sequence[Record], told: Told) -> None:
    """Leave them, in order, where the client's thread will find them; it is not woken. Raises when it has ended."""
    now_ms = int(time.time() * 1000)
    accumulator._appends_in_progress.increment()  # who ends the client waits for us
    try:
        with accumulator._tp_lock(place):
            if accumulator._closed:
                raise kafka.IllegalStateError("the client is closed")
            queue = accumulator._batches[place]
            if queue and isinstance(queue[-1], Batch):
                records = records[queue[-1].add(records, now_ms) :]
            while records:
                batch = Batch(place, told)
                records = records[batch.add(records, now_ms) :]
                queue.append(batch)
                accumulator._incomplete.add(batch)
    finally:
        accumulator._appends_in_progress.decrement()


def plain() -> ProducerBatch:
    """A batch of the client's own, for a look at what it has."""
    return ProducerBatch(TopicPartition("topic", 0), MemoryRecordsBuilder(2, 0, MOST_BYTES))
