"""A batch of ours is one of the client's, byte for byte; of each of its records it is told once what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import errors
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

from schemas.event import HEADERS as NAMES
from schemas.event import unpacked
from service.broker.batches import MOST_BYTES, NOT_TOLD, ErrorOf, Record, Records, hand_over
from service.broker.records import Bodies, body

PLACE = TopicPartition("topic", 2)
MOMENTS = st.integers(1_600_000_000_000, 1_900_000_000_000)
HEADERS = st.lists(st.tuples(st.text(max_size=70), st.binary(max_size=70)), max_size=11)
RECORDS = st.lists(
    st.tuples(MOMENTS, st.none() | st.binary(max_size=70), st.binary(max_size=9_000), HEADERS), min_size=1
)


class Teller:
    """What is told, by seq."""

    def __init__(self) -> None:
        self.delivered: dict[int, tuple[int, int]] = {}
        self.failed: dict[int, BaseException] = {}

    def __call__(self, seqs: Sequence[int], partition: int, offsets: Iterable[int], error_of: ErrorOf | None) -> None:
        assert not {*seqs} & {*self.delivered, *self.failed}
        if error_of is None:
            self.delivered |= {seq: (partition, offset) for seq, offset in zip(seqs, offsets, strict=False)}
        else:
            self.failed |= {seq: error_of(n) for n, seq in enumerate(seqs)}


def record(seq: int, value: bytes = b"{}") -> Record:
    return seq, body(b"case", value, [("journal-seq", b"%d" % seq)])


@pytest.fixture
def accumulator() -> RecordAccumulator:
    return RecordAccumulator(batch_size=MOST_BYTES, delivery_timeout_ms=2**31 - 1)


def drained(accumulator: RecordAccumulator) -> Any:
    """The next batch, as the client's thread sends it."""
    batch = accumulator._batches[PLACE].popleft()
    batch.records.set_producer_state(7, 1, 0, False)
    batch.records.close()
    return batch


@given(RECORDS)
def test_a_batch_is_what_the_client_itself_would_have_written(records: list[Any]) -> None:
    ours, theirs = Records(2, 0, MOST_BYTES), MemoryRecordsBuilder(2, 0, MOST_BYTES)

    for at, key, value, headers in records:
        added = ours.add([(1, body(key, value, headers))], at)
        assert added == (theirs.append(at, key, value, headers) is not None)

    for one in (ours, theirs):
        one.set_producer_state(7, 1, 41, False)
        one.close()
    assert ours.buffer() == theirs.buffer()
    assert ours.next_offset() == theirs.next_offset()


@given(RECORDS)
def test_records_that_come_together_are_written_as_one_by_one(records: list[Any]) -> None:
    bodies = [(n, body(key, value, headers)) for n, (_, key, value, headers) in enumerate(records)]
    together, alone = Records(2, 0, MOST_BYTES), Records(2, 0, MOST_BYTES)

    assert together.add(bodies, 1_700_000_000_000) == sum(alone.add([one], 1_700_000_000_000) for one in bodies)

    for one in (together, alone):
        one.set_producer_state(7, 1, 41, False)
        one.close()
    assert together.buffer() == alone.buffer()


@given(
    st.integers(1, 2**40),
    st.integers(1, 300),
    st.none() | st.binary(max_size=70),
    st.lists(st.binary(max_size=70).filter(lambda line: b"\n" not in line), min_size=1, max_size=9),
)
def test_what_is_written_once_for_many_is_what_each_has(seq: int, attempt: int, key: bytes, lines: list[bytes]) -> None:
    bodies = Bodies(b"journal")
    ours = [*zip([*NAMES][-3:], (b"journal", b"%d" % seq, b"%d" % attempt), strict=True)]

    for id_ in (b"first", b"second"):
        lines[1:2] = [id_]
        packed = b"\n".join(lines)
        assert bodies.body(seq, attempt, key, b"{}", packed) == body(key, b"{}", [*unpacked(packed), *ours])


def test_all_of_a_batch_are_told_of_together(accumulator: RecordAccumulator) -> None:
    told = Teller()
    hand_over(accumulator, PLACE, [record(seq) for seq in (3, 5)], told)
    hand_over(accumulator, PLACE, [record(8)], told)  # the first batch is not on its way yet

    drained(accumulator).complete(100, -1)

    assert told.delivered == {3: (2, 100), 5: (2, 101), 8: (2, 102)}
    assert not accumulator._batches[PLACE]


def test_what_comes_while_a_batch_is_on_its_way_is_another(accumulator: RecordAccumulator) -> None:
    told = Teller()
    hand_over(accumulator, PLACE, [record(1)], told)
    first = drained(accumulator)
    hand_over(accumulator, PLACE, [record(2)], told)

    drained(accumulator).complete(1, -1)
    first.complete(0, -1)

    assert told.delivered == {1: (2, 0), 2: (2, 1)}


def test_a_batch_that_is_full_is_followed_by_another(accumulator: RecordAccumulator) -> None:
    large = b"l" * (MOST_BYTES // 2)
    hand_over(accumulator, PLACE, [record(seq, large) for seq in (1, 2, 3)], Teller())

    assert [batch.record_count for batch in accumulator._batches[PLACE]] == [1, 1, 1]


def test_of_a_batch_that_the_broker_has_already_it_is_not_told_where(accumulator: RecordAccumulator) -> None:
    told = Teller()
    hand_over(accumulator, PLACE, [record(1), record(2)], told)

    drained(accumulator).complete(NOT_TOLD, -1)

    assert told.delivered == {1: (2, NOT_TOLD), 2: (2, NOT_TOLD)}


def test_each_record_of_a_failed_batch_has_its_own_error(accumulator: RecordAccumulator) -> None:
    told, refused = Teller(), errors.InvalidRecordError("no key")
    hand_over(accumulator, PLACE, [record(1), record(2)], told)

    drained(accumulator).complete_exceptionally(refused, lambda n: refused if n else errors.KafkaError("its batch"))

    assert told.failed[2] is refused
    assert "its batch" in str(told.failed[1])


def test_records_of_a_batch_that_the_client_splits_are_told_of_one_by_one(accumulator: RecordAccumulator) -> None:
    told, too_large = Teller(), errors.MessageSizeTooLargeError()
    hand_over(accumulator, PLACE, [record(seq) for seq in range(1, 6)], told)

    accumulator.split_and_reenqueue(drained(accumulator))  # 1 2 3 | 4 5
    accumulator.split_and_reenqueue(drained(accumulator))  # 1 2 | 3
    drained(accumulator).complete(10, -1)
    drained(accumulator).complete_exceptionally(too_large, lambda _: too_large)
    drained(accumulator).complete(12, -1)

    assert told.delivered == {1: (2, 10), 2: (2, 11), 4: (2, 12), 5: (2, 13)}
    assert told.failed == {3: too_large}


def test_a_client_that_has_ended_takes_nothing(accumulator: RecordAccumulator) -> None:
    accumulator.close()

    with pytest.raises(errors.IllegalStateError):
        hand_over(accumulator, PLACE, [record(1)], Teller())

    assert not accumulator.has_undrained()
    assert accumulator._appends_in_progress.get() == 0
