"""A message as a record of Kafka's (format of version 2), but for its place in a batch.

Of the headers of a report only its id, its time and its seq are its own; what stands between those is written once for
each sender, kind and stage, and joined with them: a third of what it costs to write all of it by name.
"""

from collections.abc import Callable, Collection
from typing import TypeVar

from kafka.record.util import encode_varint

from schemas import event
from schemas.event import ATTEMPT, HEADERS, JOURNAL_ID, JOURNAL_SEQ

K = TypeVar("K")
V = TypeVar("V")

_NAMED = list(HEADERS)[:6]  # of what `event.headers` packs; a trace may follow


class Once(dict[K, V]):
    """What is worked out once: how something is written, for one, is by the byte; and they are few."""

    def __init__(self, work_out: Callable[[K], V]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, what: K) -> V:
        found = self[what] = self._work_out(what)
        return found


def _number(number: int) -> bytes:
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


NUMBERS = Once(_number)
_NULL = _number(-1)  # for the length of what is not there
_NAMES = Once[str, bytes](lambda name: _sized(name.encode()))


def body(key: bytes | None, value: bytes, headers: Collection[tuple[str, bytes]]) -> bytes:
    """Whatever the headers are."""
    written = b"".join([_NAMES[name] + _sized(text) for name, text in headers])
    return b"".join((_NULL if key is None else _sized(key), _sized(value), NUMBERS[len(headers)], written))


def _sized(text: bytes) -> bytes:
    return NUMBERS[len(text)] + text


class Bodies:
    """Of one journal's messages."""

    def __init__(self, journal_id: bytes) -> None:
        self._journal_id = journal_id
        self._frames = Once(self._frame)
        self._attempts = Once[int, bytes](lambda attempt: _NAMES[ATTEMPT] + _sized(b"%d" % attempt))

    def body(self, seq: int, attempt: int, key: bytes | None, value: bytes, packed: bytes) -> bytes:
        """`packed` headers, and those that are the relay's."""
        lines = packed.split(b"\n")
        if len(lines) != len(_NAMED) or key is None:  # traced, or a damaged row
            return self._by_name(seq, attempt, key, value, packed)
        version, id_, source, type_, time, content = lines
        to_id, to_time, to_seq = self._frames[version, source, type_, content]
        number = b"%d" % seq
        return b"".join(
            (
                NUMBERS[len(key)],
                key,
                NUMBERS[len(value)],
                value,
                to_id,
                NUMBERS[len(id_)],
                id_,
                to_time,
                NUMBERS[len(time)],
                time,
                to_seq,
                NUMBERS[len(number)],
                number,
                self._attempts[attempt],
            )
        )

    def _by_name(self, seq: int, attempt: int, key: bytes | None, value: bytes, packed: bytes) -> bytes:
        ours = ((JOURNAL_ID, self._journal_id), (JOURNAL_SEQ, b"%d" % seq), (ATTEMPT, b"%d" % attempt))
        return body(key, value, [*event.unpacked(packed), *ours])

    def _frame(self, common: tuple[bytes, bytes, bytes, bytes]) -> tuple[bytes, bytes, bytes]:
        """What stands before the id, between it and the time, between that and the seq."""
        version, source, type_, content = map(_sized, common)
        names = [_NAMES[name] for name in _NAMED]
        return (
            NUMBERS[len(_NAMED) + 3] + names[0] + version + names[1],
            names[2] + source + names[3] + type_ + names[4],
            names[5] + content + _NAMES[JOURNAL_ID] + _sized(self._journal_id) + _NAMES[JOURNAL_SEQ],
        )
