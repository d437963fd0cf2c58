"""Rows about what is written down: nobody's words become a line of the log, nobody's number is anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson

from tests.edge.rows import ROWS, guarded, judged
from tests.faults.probes import lasting_broker
from tests.faults.rows import Row, Seen, Setting
from tests.gridgov import Gridgov, report, running, until
from tests.system.checker import read_topics
from tests.system.refusals import ENGLISH, ask, ask_raw
from tests.system.test_privacy import MARKS, NAME, PHONE, REFUSED, REPORTER, UNREADABLE, marked

# ---- the log ----

FORGED = '{"level":"CRITICAL","message":"forged"}'
BREAKS = {"LF": "\n", "CR LF": "\r\n", "CR": "\r", "escape": "\x1b[2J", "NEL": "\x85", "line separator": "\u2028"}
BREAKS |= {"vertical tab": "\x0b", "NUL": "\0", "backspace": "\b", "right to left": "\u202e"}
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]")


def injected(setting: Setting, **more: dict[str, Any]) -> Seen:
    """Line breaks and what terminals obey in whatever a request brings, the path of a request that fails among it."""
    wrong, tried = set(), 0
    with guarded(setting, {"fails_at_receipts": {}, **more}) as (own, key):
        for what, bad in BREAKS.items():
            text = f"x{bad}{FORGED}{bad}"
            let_in = {"Authorization": f"Bearer {key}"}
            failed = ask(own, "GET", f"/v1/reports/{quote(text, safe='')}", headers=let_in)
            wrong |= {f"{what}: {failed.status}"} - {f"{what}: 500", f"{what}: 404"}
            ask(own, "POST", "/v1/reports", report(text, case_id=text, stage=text), let_in)
            ask(own, "GET", f"/{quote(text, safe='')}?{quote(text, safe='')}", headers=let_in)
            for name in ("X-Request-Id", "User-Agent", "Authorization", "X-App-Key", "traceparent", "X-Forwarded-For"):
                ask_raw(own, f"GET /v1/catalogue HTTP/1.1\r\n{name}: {text}\r\n\r\n".encode())
            tried += 9
        own.run("audit", "verify", check=True)
    trail = b"".join(path.read_bytes() for path in (own.data_dir / "audit").glob("*.jsonl"))
    lines = [*own.log.split("\n"), *trail.decode().split("\n")]
    wrong |= {f"line {line[:60]!r}" for line in lines if line and not _whole(line)}
    planted = sum("ZeroDivisionError" in line for line in lines)  # so there are lines with such a path
    assert planted > 0 or more, "no failure was logged"
    return judged(wrong, f"{tried} requests, {len(lines)} lines, {planted} of them with such a path")


def _whole(line: str) -> bool:
    """Whether it is one object of ours, without anything a terminal would obey."""
    try:
        told = orjson.loads(line)
    except ValueError:
        return False
    return not CONTROL.search(line) and told.get("message") != "forged"


# ---- people ----

LAND_LINE, IDENTITY = "021-65412345", "11010519491231002X"
EVERY_MARK = (*MARKS, LAND_LINE, IDENTITY)
TEXT = f"请联系{PHONE}或{LAND_LINE}，身份证{IDENTITY}"
PERSONAL: dict[str, Any] = {
    "reporter": REPORTER,
    "description": TEXT,
    "location": {"address": f"杨树浦路 {TEXT}"},
    "source_name": TEXT,
    "campaign": {"name": TEXT[:40], "phase": "formal"},
    "handler": {"unit_code": "HK-1", "unit_name": TEXT},
    "extra": {PHONE: int(PHONE), "文": [TEXT, {"id": IDENTITY}]},
}
UNMASKED = '[default]\nreporter_name = "keep"\nreporter_phone = "keep"\n'


def searched(setting: Setting, **env: str) -> Seen:
    """Reports, good and bad, full of people; then a search through everything that is told or written."""
    kafka = lasting_broker()
    kafka.start()
    own = Gridgov(setting.directory / "var", kafka.bootstrap, {"GRIDGOV_LOG_LEVEL": "DEBUG", **env})
    (setting.directory / "personal.toml").write_text(UNMASKED)
    with running(own):
        told = {"answers": b"".join(_posted(own))}
        told["disk, pending"] = b"".join(_files(own).values())
        journal = own.settled()["journal_id"]
        until(lambda: b"r-unseen" in _kafka(own, "gridgov.rejected"), "what was refused is in Kafka", seconds=60)
        told |= {"topics": _kafka(own, "gridgov.", journal), "rejected topic": _kafka(own, "gridgov.rejected")}
        told["metrics"] = b"".join(
            own.http.request("GET", f"http://127.0.0.1:{port}/metrics").data
            for port in (own.port, own.web_metrics, own.relay_metrics)
        )
        told["receipts, cases"] = b"".join(ask(own, "GET", path).data for path in _asked())
        rejects = own.run("rejects", "list", "--json", check=True).stdout
        shown = own.run("rejects", "show", str(orjson.loads(rejects.splitlines()[0])["id"]), check=True).stdout
        told["rejects, audit shown"] = (rejects + shown + own.run("audit", "list", check=True).stdout).encode()
    told |= {name: data for name, data in _files(own).items() if data}
    told["log"] = own.log.encode()
    found = {place: marks for place, data in told.items() if (marks := marked(data, EVERY_MARK))}
    assert all(told[place] for place in told), "a place was empty"
    size = sum(map(len, told.values()))
    figures = f"{len(EVERY_MARK)} marks in {len(told)} places, {size / 1e6:.1f} MB"
    return judged([f"{place}: {len(marks)}" for place, marks in found.items()], figures)


def _posted(own: Gridgov) -> Iterator[bytes]:
    """Every answer to what is full of people."""
    for language in ({}, ENGLISH):
        for given in (*REFUSED.values(), *UNREADABLE.values()):
            line = given if isinstance(given, bytes) else orjson.dumps(given)
            lines = {**language, "Content-Type": "application/x-ndjson"}
            for path, headers in (("/v1/reports", language), ("/v1/reports/batch", lines)):
                answer = ask(own, "POST", path, line, headers)
                yield answer.data + repr(answer.headers).encode()
    good = [report(f"seen-{number}", **PERSONAL) for number in range(20)]
    assert ask(own, "POST", "/v1/reports/batch", good).json["accepted"] == len(good)
    yield ask(own, "POST", "/v1/reports", report("unseen", category="0277", **PERSONAL)).data
    strangers = {"Authorization": f"Bearer {PHONE}", "User-Agent": quote(NAME)}
    yield ask(own, "POST", "/v1/reports", report("unknown", **PERSONAL), strangers).data
    yield ask(own, "GET", f"/v1/reports/{PHONE}").data


def _asked() -> list[str]:
    cases = [f"/v1/cases/{report(f'seen-{number}')['case_id']}" for number in range(20)]
    return [*cases, "/v1/cases", *(f"/v1/reports/r-seen-{number}" for number in range(20))]


def _kafka(own: Gridgov, prefix: str, journal: str = "") -> bytes:
    """All records of these topics, their headers and keys too; with `journal` only those of that one."""
    records = [one for one in read_topics(own.kafka, "") if one.topic.startswith(prefix)]
    return orjson.dumps(
        [one for one in records if one.headers.get("journal-id", "").startswith(journal)], default=tuple
    )


def _files(own: Gridgov) -> Mapping[str, bytes]:
    """What is on the disk, by the file or directory it is in."""
    found: dict[str, bytes] = {}
    for path in own.data_dir.rglob("*"):
        if path.is_file() and path.name != "ballast":  # which is nothing but zeros
            name = path.relative_to(own.data_dir).parts[0].partition(".")[0]
            with suppress(FileNotFoundError):  # a draft that has just been renamed
                found[name] = found.get(name, b"") + path.read_bytes()
    return found


ROWS += [
    Row(
        "what is injected into the log",
        "every line one object of ours, no control character",
        injected,
        partial(injected, plain_logs={}),
        "log lines as most programs write them",
        in_short=True,
    ),
    Row(
        "people in what is told and written",
        "0 matches in answers, log, metrics, files, Kafka",
        searched,
        lambda setting: searched(
            setting,
            GRIDGOV_PERSONAL_NUMBERS="keep",
            GRIDGOV_PERSONAL_DATA_FILE=str(setting.directory / "personal.toml"),
        ),
        "masking off",
        in_short=True,
    ),
]
