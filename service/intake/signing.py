"""Signed requests: the key never travels, and what was signed cannot be changed on the way.

A client sends `X-App-Key` (gg_<id>), `X-Timestamp` (epoch seconds or milliseconds), `X-Content-Digest` (hex, of the raw
body; of the empty one if it is left out) and `X-Signature`: the HMAC, in hex, of the five lines of `text` under the
part of the key behind the second `_`. Digest and HMAC are of the key's own kind, so nobody can choose a weaker one. The
body need not be there to know who is asking: `fits` compares it with the digest that was signed once it was read.

A request sent again within the window is the same report under the same id: a duplicate, hence no nonce is kept.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from schemas.reasons import Reason
from service.intake.keyfile import Digest

WINDOW_SECONDS = 300
_SIGNED = "gridgov.signed"  # in the environ: the digest that the body must have
_TIMESTAMP = re.compile("[0-9]{10}(?:[0-9]{3})?")
_APP_KEY = re.compile("gg_([0-9a-f]{8})")
Environ = dict[str, Any]


class Wrong(Exception):
    """It is not signed as it should be; `reason` says what is wrong, as far as that is told."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Secret(NamedTuple):
    """What a key signs with."""

    digest: Digest
    secret: bytes


class _Body(NamedTuple):
    digest: Digest
    hex: str


def text(method: str, path: str, query: str, body: str, timestamp: str) -> bytes:
    """What is signed: five lines, the last without an end. `query` as sent, its pairs sorted; `body` is its digest."""
    pairs = "&".join(sorted(pair for pair in query.split("&") if pair))
    return "\n".join((method, path, pairs, body, timestamp)).encode()


def signature(key: Secret, signed: bytes) -> str:
    """The HMAC in hex."""
    return hmac.digest(key.secret, signed, key.digest).hex()


def digest_of(kind: Digest, body: bytes) -> str:
    """The digest of a body in hex."""
    return hashlib.new(kind, body).hexdigest()


def signer(environ: Environ, secret_of: Callable[[str], Secret | None], now: float) -> str:
    """The id of the key that has signed a request. `now` in Unix seconds. Raises `Wrong`."""
    app_key = _APP_KEY.fullmatch(environ.get("HTTP_X_APP_KEY", ""))
    timestamp: str = environ.get("HTTP_X_TIMESTAMP", "")
    if app_key is None or not _TIMESTAMP.fullmatch(timestamp):
        raise Wrong(Reason.BAD_SIGNATURE)
    if abs(int(timestamp[:10]) - now) > WINDOW_SECONDS:
        raise Wrong(Reason.STALE_TIMESTAMP)
    key = secret_of(app_key[1])
    if key is None:
        raise Wrong(Reason.BAD_SIGNATURE)
    body = environ.get("HTTP_X_CONTENT_DIGEST", "").lower() or digest_of(key.digest, b"")
    signed = text(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), body, timestamp)
    shown = environ.get("HTTP_X_SIGNATURE", "").lower()
    if not hmac.compare_digest(signature(key, signed).encode(), shown.encode()):
        raise Wrong(Reason.BAD_SIGNATURE)
    environ[_SIGNED] = _Body(key.digest, body)
    return app_key[1]


def fits(environ: Environ, body: bytes) -> bool:
    """Whether a body is the one that was signed, if any was."""
    signed: _Body | None = environ.get(_SIGNED)
    return signed is None or digest_of(signed.digest, body) == signed.hex
