"""Compressed bodies: never more in memory than the limit lets through, whatever was packed."""

import zlib

from schemas.reasons import Reason
from service.intake.edge import Refusal

MEMBERS = 64  # of one body: a gzip file may be several, and each costs a look at the rest
_GZIP = 31  # zlib's number for: with gzip's head and check sum


def inflated(data: bytes, limit: int) -> bytes:
    """What `data` holds, at most `limit` bytes. Raises Refusal: too large, cut off, or no gzip.

    Unlike JSON it cannot pass for whole when it is not: its end, its length and its check sum are in it.
    """
    pieces: list[bytes] = []
    room = limit + 1
    for _ in range(MEMBERS):
        if not data:
            return b"".join(pieces)
        member = zlib.decompressobj(_GZIP)
        try:
            pieces.append(member.decompress(data, room))
        except zlib.error:
            raise Refusal(Reason.BAD_GZIP) from None
        room -= len(pieces[-1])
        if room <= 0:
            raise Refusal(Reason.BODY_TOO_LARGE, limit=limit)
        if not member.eof:
            raise Refusal(Reason.TRUNCATED_BODY)
        data = member.unused_data
    raise Refusal(Reason.BAD_GZIP)
