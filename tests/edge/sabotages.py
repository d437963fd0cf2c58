"""Protections of the edge taken away, for the controls; `tests/faults/launcher.py` applies them by name, in web."""

from __future__ import annotations

import hmac
import json
import logging
import random
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


def lax_json() -> None:
    """Reads as the standard library does: the last of two equal keys counts, NaN is a number."""
    from schemas import wire
    from schemas.reasons import Reason

    def parse(body: bytes) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise wire.Unreadable(Reason.MALFORMED_JSON) from None

    vars(wire)["parse"] = parse


def inflates_all(most: int) -> None:
    """Unpacks a body, up to so many bytes for this machine's sake, before it looks how large it may be."""
    from schemas.reasons import Reason
    from service.intake import body
    from service.intake.edge import Refusal

    def inflated(data: bytes, limit: int) -> bytes:
        whole = zlib.decompressobj(31).decompress(data, most)
        if len(whole) > limit:
            raise Refusal(Reason.BODY_TOO_LARGE, limit=limit)
        return whole

    vars(body)["inflated"] = inflated


def planted(fails: float, leaks: int, seed: int) -> None:
    """This share of the requests fails, and each keeps so many bytes for ever."""
    from service.intake.accept import Intake

    dice, kept, careful = random.Random(seed), [], Intake.accept

    def accept(self: Intake, *given: Any, **more: Any) -> Any:
        kept.append(b"x" * leaks)
        if dice.random() < fails:
            raise ZeroDivisionError("planted")
        return careful(self, *given, **more)

    Intake.accept = accept  # type: ignore[method-assign]


def lets_in() -> None:
    """Whoever shows no key, or a wrong one, is taken for this machine."""
    from service.intake.keys import LOCAL, Keys, Principal

    careful = Keys.who

    def who(self: Keys, authorization: str | None) -> Principal | None:
        return careful(self, authorization) or LOCAL

    Keys.who = who  # type: ignore[method-assign]


def believes_signatures() -> None:
    """Does not compare what was signed with what came."""
    from service.intake import signing

    vars(signing)["hmac"] = SimpleNamespace(digest=hmac.digest, compare_digest=lambda *_: True)
    vars(signing)["fits"] = lambda *_: True


def fails_at_receipts() -> None:
    """Whoever asks for a receipt meets a mistake of ours, which is logged with the path that was asked for."""
    from service.journal.journal import SqliteJournal

    def receipt(self: SqliteJournal, sender: str, report_id: str) -> Any:
        raise ZeroDivisionError("planted")

    SqliteJournal.receipt = receipt  # type: ignore[assignment, method-assign]


def plain_logs() -> None:
    """Log lines as most programs write them."""
    from service import logs

    careful = logs.settings

    def settings(level: str) -> dict[str, Any]:
        lines = logging.Formatter("%(asctime)s %(levelname)s %(message)s %(path)s", defaults={"path": ""})
        return {**careful(level), "formatters": {"json": {"()": lambda: lines}}}

    vars(logs)["settings"] = settings


SABOTAGES: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    one.__name__: (("web",), one)
    for one in (lax_json, inflates_all, planted, lets_in, believes_signatures, fails_at_receipts, plain_logs)
}
