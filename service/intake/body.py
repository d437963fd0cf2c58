"""The body of a request, read so that nothing slips through.

Whoever sends slowly keeps a connection and nothing else: who waits for a body has given way (see `loop`).
"""

import time

from schemas import report, wire
from schemas.reasons import Reason
from service.intake import signing
from service.intake.edge import LET_IN, Environ, Refusal, compressed
from service.intake.gzipped import inflated

REPORT_BYTES = 256 * 1024
BATCH_BYTES = 2 * 1024 * 1024
BATCH_REPORTS = 1000
DRAIN_BYTES = 16 * 1024 * 1024  # of a refused body, so that who sends all before reading gets the answer too
DRAIN_SECONDS = 5.0
_PIECE = 16384
_OVER = "gridgov.body_over"  # in the environ: nothing more is to be read


def value(environ: Environ, limit: int) -> object:
    """What a JSON body spells (see `report.parse`), of at most `limit` bytes. Raises Refusal, Unreadable.

    It need not be announced (chunked, HTTP/2): the server gives us a body that broke off as if it were whole, but
    a JSON text closes itself, so no part of an object or an array is one.
    """
    announced = _announced(environ)
    data = _whole(environ, announced, limit)
    try:
        return report.parse(data)
    except wire.Unreadable as unreadable:
        if announced is None and unreadable.unfinished:
            raise Refusal(Reason.TRUNCATED_BODY) from None
        raise


def array(environ: Environ) -> list[object]:
    """The items of a JSON array; one that cannot be read is a problem of the whole request."""
    items = value(environ, BATCH_BYTES)
    if not isinstance(items, list):
        raise Refusal(Reason.NOT_AN_ARRAY)
    return items


def lines(environ: Environ) -> list[object]:
    """The items of an NDJSON body; a line that cannot be read stands in its place as `Unreadable`.

    It must be announced: cut off at the end of a line it looks complete.
    """
    announced = _announced(environ)
    if announced is None:
        raise Refusal(Reason.BAD_LENGTH)
    raw = wire.split_ndjson(_whole(environ, announced, BATCH_BYTES))
    return [_line(line) for line in raw[: BATCH_REPORTS + 1]]


def drain(environ: Environ) -> bool:
    """Read what is left of the body of a refused request, within limits; whether it was all.

    Else the connection has to end: the server cuts it, and who sends all before reading may miss the answer.
    """
    given = environ.get("CONTENT_LENGTH", "")
    length = int(given) if given.isascii() and given.isdigit() else None
    if _OVER in environ or length == 0 or (length is None and not _unannounced(environ)):
        return True
    budget = DRAIN_BYTES if LET_IN in environ else REPORT_BYTES
    return (length or 0) <= budget and _swallow(environ, budget)


def doubtful(environ: Environ) -> bool:
    """Whether others may see another end of the body than our server does: what comes behind it must not be read."""
    return "HTTP_TRANSFER_ENCODING" in environ and not _unannounced(environ)


def _announced(environ: Environ) -> int | None:
    """How long the body is going to be; None if it is sent in chunks. Raises Refusal when that is not clear."""
    length = environ.get("CONTENT_LENGTH")
    if length is None and _unannounced(environ):
        return None
    if not length or "HTTP_TRANSFER_ENCODING" in environ or not (length.isascii() and length.isdigit()):
        raise Refusal(Reason.BAD_LENGTH)
    return int(length)


def _unannounced(environ: Environ) -> bool:
    """Whether a body may come whose end shows only when it is there."""
    coding = environ.get("HTTP_TRANSFER_ENCODING", "")
    return coding.lower() == "chunked" or (not coding and environ.get("SERVER_PROTOCOL") == "HTTP/2")


def _whole(environ: Environ, announced: int | None, limit: int) -> bytes:
    """All of the body, unpacked; packed or not it has `limit` bytes at most.

    Not `request.get_data()`: that takes a truncated body for a whole one.
    """
    if announced is not None and announced > limit:
        raise Refusal(Reason.BODY_TOO_LARGE, limit=limit)
    data: bytes = environ["wsgi.input"].read(limit + 1)
    if len(data) > limit:
        raise Refusal(Reason.BODY_TOO_LARGE, limit=limit)
    environ[_OVER] = True
    if announced is not None and len(data) != announced:
        raise Refusal(Reason.TRUNCATED_BODY)
    if not signing.fits(environ, data):
        raise Refusal(Reason.BAD_SIGNATURE)
    return inflated(data, limit) if compressed(environ) else data


def _swallow(environ: Environ, budget: int) -> bool:
    end = time.monotonic() + DRAIN_SECONDS
    while budget > 0 and time.monotonic() < end:
        gone = len(environ["wsgi.input"].read(_PIECE))
        if gone < _PIECE:
            return True
        budget -= gone
    return False


def _line(line: bytes) -> object:
    try:
        return report.parse(line)
    except wire.Unreadable as unreadable:
        return unreadable
