"""gzip: what was packed comes out whole or not at all, and no more of it than asked for."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reasons import Reason
from service.intake.edge import Refusal
from service.intake.gzipped import MEMBERS, inflated

LIMIT = 256 * 1024


def reason(data: bytes, limit: int = LIMIT) -> Reason:
    with pytest.raises(Refusal) as refusal:
        inflated(data, limit)
    return refusal.value.reason


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]) + packer.flush()


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(0, 9))
def test_what_was_packed_comes_out(parts: list[bytes], level: int) -> None:
    assert inflated(b"".join(gzip.compress(part, level) for part in parts), LIMIT) == b"".join(parts)


@given(st.binary(min_size=1, max_size=300), st.data())
def test_no_part_of_it_passes_for_whole(content: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(content)
    cut = data.draw(st.integers(1, len(packed) - 1))

    assert reason(packed[:cut]) in (Reason.TRUNCATED_BODY, Reason.BAD_GZIP)


def test_what_is_no_gzip() -> None:
    packed = gzip.compress(b"{}" * 100)
    for wrong in (b"{}", zlib.compress(b"{}"), packed + b"{}", packed[:-5] + b"\0" + packed[-4:], packed[:-1] + b"\1"):
        assert reason(wrong) is Reason.BAD_GZIP
    assert reason(gzip.compress(b"") * (MEMBERS + 1)) is Reason.BAD_GZIP
    assert inflated(b"", LIMIT) == b""


@pytest.mark.parametrize("by", [0, 1])
def test_the_limit_is_exact(by: int) -> None:
    packed = gzip.compress(bytes(LIMIT - 10)) + gzip.compress(bytes(10 + by))
    if by:
        assert reason(packed) is Reason.BODY_TOO_LARGE
    else:
        assert len(inflated(packed, LIMIT)) == LIMIT


def test_a_bomb_takes_no_memory() -> None:
    packed = bomb(256 << 20)
    assert len(packed) < LIMIT * 2
    tracemalloc.start()
    try:
        assert reason(packed) is Reason.BODY_TOO_LARGE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * LIMIT
