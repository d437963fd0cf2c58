"""Arrays on their way to PostgreSQL, in its binary form: a group of reports is a handful of them.

psycopg's own go as text, where a blob takes twice its room and is written and read digit by digit.
"""

import struct
from collections.abc import Iterable

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEAD, _SIZE, _NUMBER = struct.Struct(">iiIii"), struct.Struct(">i").pack, struct.Struct(">iq").pack
_BYTEA, _INT8, _TEXT = 17, 20, 25  # types of PostgreSQL's, and below of arrays of them
_NULL = _SIZE(-1)


class Texts(bytes):
    """A TEXT[]."""


class Blobs(bytes):
    """A BYTEA[]."""


class Numbers(bytes):
    """A BIGINT[]."""


def texts(items: Iterable[str]) -> Texts:
    """As an array."""
    parts = [item.encode() for item in items]
    return Texts(_framed(_TEXT, parts))


def blobs(items: Iterable[bytes | None]) -> Blobs:
    """As an array; None is NULL."""
    return Blobs(_framed(_BYTEA, list(items)))


def numbers(items: Iterable[int]) -> Numbers:
    """As an array. Raises TypeError for what does not fit into 64 bits."""
    try:
        parts = [_NUMBER(8, item) for item in items]
    except struct.error as error:
        raise TypeError(str(error)) from error
    return Numbers(_HEAD.pack(1, 0, _INT8, len(parts), 1) + b"".join(parts))


def _framed(kind: int, parts: list[bytes] | list[bytes | None]) -> bytes:
    framed = [_HEAD.pack(1, 1, kind, len(parts), 1)]
    for part in parts:
        framed += (_NULL,) if part is None else (_SIZE(len(part)), part)
    return b"".join(framed)


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


class _Texts(_AsItIs):
    oid = 1009


class _Blobs(_AsItIs):
    oid = 1001


class _Numbers(_AsItIs):
    oid = 1016


def taught(connection: "Connection[tuple[object, ...]]") -> None:
    """Have a connection take them."""
    for kind, dumper in ((Texts, _Texts), (Blobs, _Blobs), (Numbers, _Numbers)):
        connection.adapters.register_dumper(kind, dumper)
