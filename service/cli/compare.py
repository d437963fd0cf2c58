"""Whether gridgov came to what a simulated day must come to: case by case, as its API tells them."""

import time
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import orjson

from service.cli.replay import Http, ReplayError
from service.simulate.expected import Expected

PAGE = 1000
LOOK_SECONDS = (0.5, 1, 1, 1, 1, 1, 2, 5)  # between two looks; thousands of cases are work for the API


def settled(http: Http, run: str, expected: Mapping[str, Expected], patience: float) -> dict[str, Expected]:
    """The cases of a run as gridgov has them: once they are as expected, else after `patience` seconds.

    Raises `ReplayError` when the API cannot be asked.
    """
    end = time.monotonic() + patience
    for pause in chain(LOOK_SECONDS, repeat(LOOK_SECONDS[-1])):
        found = asked(http, run)
        if found == expected or time.monotonic() > end:
            break
        time.sleep(pause)
    return found


def asked(http: Http, run: str) -> dict[str, Expected]:
    """The cases of a run as gridgov has them now, by id."""
    found: dict[str, Expected] = {}
    cursor: str | None = f"{run}-"
    while cursor is not None and cursor.startswith(run):
        status, data = http.get(f"/v1/cases?limit={PAGE}&cursor={cursor}")
        if status != 200:
            raise ReplayError(f"status {status} for the cases; a key must be allowed to read them")
        page = orjson.loads(data)
        found |= {one["case_id"]: seen(one) for one in page["cases"] if one["case_id"].startswith(f"{run}-")}
        cursor = page["next"]
    return found


def seen(shown: Mapping[str, Any]) -> Expected:
    """A case of `GET /v1/cases` in the words of what is expected."""
    judged = {one["standard"]: one for one in shown["standards"]}
    outcomes = {name: one["outcome"] for name, one in judged.items()}
    return Expected(
        kind=shown["kind"],
        campaign_phase=shown["campaign"] and shown["campaign"]["phase"],
        supervision=shown["supervision"],
        was_reported=any(one["stage"] == "reported" for one in shown["stages"]),
        approved=shown["phase"] == "approved",
        cancelled=shown["phase"] == "cancelled",
        reopenings=shown["reopenings"],
        arrival=outcomes.get("arrival"),
        completion=outcomes.get("completion"),
        unfinished="completion" in judged and judged["completion"]["overdue"],
    )


def differences(expected: Mapping[str, Expected], found: Mapping[str, Expected]) -> Sequence[str]:
    """One line per case that is not as it must be."""
    lines = []
    for name, must in expected.items():
        if name not in found:
            lines.append(f"{name}: gridgov does not know it")
        elif (has := found[name]) != must:
            pairs = zip(must._fields, must, has, strict=True)
            lines.append(
                f"{name}: " + ", ".join(f"{field} {is_!r}, not {want!r}" for field, want, is_ in pairs if want != is_)
            )
    return lines
