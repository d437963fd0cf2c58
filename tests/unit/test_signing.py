"""Signed requests: every part that is signed counts, for as long as it should, and the page tells it as it is."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.reasons import Reason
from service.intake.keyfile import Digest
from service.intake.signing import WINDOW_SECONDS, Secret, Wrong, digest_of, fits, signature, signer, text

PAGES = [Path(__file__).parents[2] / "deploy" / "signing" / name for name in ("README.md", "README.zh-CN.md")]
NOW, BODY = 1_604_448_000, b'{"report_id":"20201104-0001-1","stage":"arrived"}'
SECRET = b"YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY"
KEYS = {
    "01234567": Secret(Digest.SHA256, SECRET),
    "76543210": Secret(Digest.SM3, SECRET),
    "00000000": Secret(Digest.SHA256, SECRET[::-1]),
}
FULL_WIDTH = {48 + digit: 0xFF10 + digit for digit in range(10)}
Environ = dict[str, Any]


def signed(key_id: str = "01234567", *, method: str = "POST", query: str = "b=2&a=1", at: str = str(NOW)) -> Environ:
    """A request as a good client signs it, by hand."""
    key = KEYS[key_id]
    body = hashlib.new(key.digest, BODY).hexdigest()
    said = "\n".join((method, "/v1/reports", "&".join(sorted(query.split("&"))), body, at))
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": "/v1/reports",
        "QUERY_STRING": query,
        "HTTP_X_APP_KEY": f"gg_{key_id}",
        "HTTP_X_TIMESTAMP": at,
        "HTTP_X_CONTENT_DIGEST": body,
        "HTTP_X_SIGNATURE": hmac.new(key.secret, said.encode(), key.digest).hexdigest(),
    }


def verdict(environ: Environ, now: float = NOW) -> str | Reason:
    try:
        return signer(environ, KEYS.get, now)
    except Wrong as wrong:
        return wrong.reason


def test_sm3_is_that_of_the_standard() -> None:
    """GB/T 32905-2016, example 1; HMAC by its definition in RFC 2104."""
    assert digest_of(Digest.SM3, b"abc") == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    inner, outer = (bytes(pad ^ byte for byte in SECRET.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    by_hand = hashlib.new("sm3", outer + hashlib.new("sm3", inner + b"abc").digest()).hexdigest()
    assert signature(KEYS["76543210"], b"abc") == by_hand


@pytest.mark.parametrize("key_id", KEYS)
@pytest.mark.parametrize("at", [str(NOW), f"{NOW}999"])
@pytest.mark.parametrize("query", ["b=2&a=1", "a=1&b=2", "a=1", "a=%E6%9D%A8&a=", ""])
def test_a_good_signature_tells_whose_it_is_and_binds_the_body(key_id: str, at: str, query: str) -> None:
    environ = signed(key_id, at=at, query=query)
    assert verdict(environ) == key_id
    assert fits(environ, BODY)
    for other in (b"", BODY + b" ", BODY.replace(b"arrived", b"cancell")):
        assert not fits(environ, other)
    assert verdict(environ | {"HTTP_X_SIGNATURE": environ["HTTP_X_SIGNATURE"].upper()}) == key_id


def test_where_nothing_is_signed_any_body_fits() -> None:
    assert fits({}, BODY)


def test_without_a_digest_the_empty_body_is_signed() -> None:
    key = KEYS["01234567"]
    environ = signed(method="GET") | {"HTTP_X_SIGNATURE": ""}
    del environ["HTTP_X_CONTENT_DIGEST"]
    said = text("GET", "/v1/reports", "a=1&b=2", digest_of(key.digest, b""), str(NOW))
    environ["HTTP_X_SIGNATURE"] = signature(key, said)
    assert verdict(environ) == "01234567"
    assert fits(environ, b"")
    assert not fits(environ, BODY)


def changed(name: str, change: Callable[[str], str]) -> Callable[[Environ], Environ]:
    return lambda environ: environ | {name: change(environ[name])}


def without(name: str) -> Callable[[Environ], Environ]:
    return lambda environ: {key: value for key, value in environ.items() if key != name}


TAMPERED: dict[str, Callable[[Environ], Environ]] = {
    "another method": changed("REQUEST_METHOD", lambda _: "PUT"),
    "another case of the method": changed("REQUEST_METHOD", str.lower),
    "another path": changed("PATH_INFO", lambda path: f"{path}/batch"),
    "a slash more": changed("PATH_INFO", lambda path: f"{path}/"),
    "another value in the query": changed("QUERY_STRING", lambda query: query.replace("a=1", "a=2")),
    "a pair more": changed("QUERY_STRING", lambda query: f"{query}&c=3"),
    "a pair twice": changed("QUERY_STRING", lambda query: f"{query}&a=1"),
    "a pair less": changed("QUERY_STRING", lambda _: "a=1"),
    "no query": changed("QUERY_STRING", lambda _: ""),
    "another spelling of the query": changed("QUERY_STRING", lambda query: query.replace("a=1", "%61=1")),
    "another digest": changed("HTTP_X_CONTENT_DIGEST", lambda hex_: hex_[::-1]),
    "no digest": without("HTTP_X_CONTENT_DIGEST"),
    "a later time": changed("HTTP_X_TIMESTAMP", lambda at: str(int(at) + 1)),
    "the same time in ms": changed("HTTP_X_TIMESTAMP", lambda at: f"{at}000"),
    "no time": without("HTTP_X_TIMESTAMP"),
    "a time that is none": changed("HTTP_X_TIMESTAMP", lambda at: f" {at}"),
    "a time in other digits": changed("HTTP_X_TIMESTAMP", lambda at: at.translate(FULL_WIDTH)),
    "another's key": changed("HTTP_X_APP_KEY", lambda _: "gg_00000000"),
    "the same secret, another digest": changed("HTTP_X_APP_KEY", lambda _: "gg_76543210"),
    "a key that is none": changed("HTTP_X_APP_KEY", lambda _: "gg_ffffffff"),
    "a key without its beginning": changed("HTTP_X_APP_KEY", lambda key: key[3:]),
    "the last digit of the signature": changed(
        "HTTP_X_SIGNATURE", lambda hex_: hex_[:-1] + ("0" if hex_[-1] != "0" else "1")
    ),
    "half a signature": changed("HTTP_X_SIGNATURE", lambda hex_: hex_[:32]),
    "no signature": without("HTTP_X_SIGNATURE"),
    "a signature that is no hex": changed("HTTP_X_SIGNATURE", lambda _: "ſignature"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_whatever_is_changed_is_seen(what: str) -> None:
    assert verdict(TAMPERED[what](signed())) == Reason.BAD_SIGNATURE
    assert verdict(signed()) == "01234567"


@pytest.mark.parametrize("skew", [-WINDOW_SECONDS - 1, -WINDOW_SECONDS, 0, WINDOW_SECONDS, WINDOW_SECONDS + 1])
def test_a_signature_is_good_for_five_minutes_either_way(skew: int) -> None:
    good = abs(skew) <= WINDOW_SECONDS
    assert verdict(signed(), NOW + skew) == ("01234567" if good else Reason.STALE_TIMESTAMP)
    assert verdict(signed(at=f"{NOW}000"), NOW + skew) == ("01234567" if good else Reason.STALE_TIMESTAMP)


def test_no_line_can_pass_for_another() -> None:
    assert text("GET", "/a", "b", "c", "1") != text("GET", "/a\nb", "", "c", "1")
    assert text("GET", "/a", "b=1&&", "c", "1") == text("GET", "/a", "b=1", "c", "1")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_worked_example_works(page: Path) -> None:
    told = page.read_text(encoding="utf-8")
    assert f"gg_01234567_{SECRET.decode()}" in told
    assert BODY.decode() in told
    for kind in Digest:
        key = Secret(kind, SECRET)
        post = text("POST", "/v1/reports", "", digest_of(kind, BODY), str(NOW))
        get = text("GET", "/v1/cases", "phase=approved&kind=repair", digest_of(kind, b""), str(NOW))
        for part in (digest_of(kind, BODY), signature(key, post), signature(key, get)):
            assert part in told, (kind, part)
        assert kind is Digest.SM3 or post.decode() in told
