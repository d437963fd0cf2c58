"""A message as a record of Kafka's (format of version 2), but for its place in a batch.

Of the headers of a report only its id, its time and its seq are its own; what stands between those is written once for
each sender, kind and stage, and joined with them: half of what it costs to write all of it by name.
"""

from collections.abc import Callable, Collection
from typing import TypeVar

from kafka.record.util import encode_varint

from schemas import event
from schemas.event import ATTEMPT, HEADERS, JOURNAL_ID, JOURNAL_SEQ

K = TypeVar("K")

_LINES = list(HEADERS)[:7]  # of what `event.headers` packs; the last may be absent


class Written(dict[K, bytes]):
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


NUMBERS = Written(_number)
_NULL = _number(-1)  # for the length of what is not there
_NAMES = Written[str](lambda name: _number(len(name.encode())) + name.encode())


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
        self._frames: dict[tuple[bytes, bytes, bytes, bytes, int], list[bytes]] = {}
        self._attempts = Written[int](lambda attempt: _NAMES[ATTEMPT] + _sized(b"%d" % attempt))

    def body(self, seq: int, attempt: int, key: bytes | None, value: bytes, packed: bytes) -> bytes:
        """`packed` headers, and those that are the relay's."""
        lines = packed.split(b"\n")
        if not len(_LINES) - 1 <= len(lines) <= len(_LINES):  # nothing of ours, but a row may be damaged
            return self._by_name(seq, attempt, key, value, packed)
        version, id_, source, type_, time, content, *trace = lines
        common = (version, source, type_, content, len(trace))
        to_id, to_time, to_trace, to_seq = self._frames.get(common) or self._frame(*common)
        number = b"%d" % seq
        parts = [_NULL] if key is None else [NUMBERS[len(key)], key]
        parts += (NUMBERS[len(value)], value, to_id, NUMBERS[len(id_)], id_)
        parts += (to_time, NUMBERS[len(time)], time, to_trace)
        for one in trace:
            parts += (NUMBERS[len(one)], one)
        parts += (to_seq, NUMBERS[len(number)], number, self._attempts[attempt])
        return b"".join(parts)

    def _by_name(self, seq: int, attempt: int, key: bytes | None, value: bytes, packed: bytes) -> bytes:
        ours = ((JOURNAL_ID, self._journal_id), (JOURNAL_SEQ, b"%d" % seq), (ATTEMPT, b"%d" % attempt))
        return body(key, value, [*event.unpacked(packed), *ours])

    def _frame(self, version: bytes, source: bytes, type_: bytes, content: bytes, traced: int) -> list[bytes]:
        """What stands before the id, between it and the time, before the trace and before the seq."""
        names = [_NAMES[name] for name in _LINES]
        frame = self._frames[version, source, type_, content, traced] = [
            NUMBERS[len(HEADERS) - 1 + traced] + names[0] + _sized(version) + names[1],
            names[2] + _sized(source) + names[3] + _sized(type_) + names[4],
            names[5] + _sized(content) + (names[6] if traced else b""),
            _NAMES[JOURNAL_ID] + _sized(self._journal_id) + _NAMES[JOURNAL_SEQ],
        ]
        return frame
