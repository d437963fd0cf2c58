"""Rows about reading: requests that two layers may read differently, JSON that is none, bodies that are bombs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import orjson

from tests.edge.rows import ROWS, guarded, judged
from tests.faults.rows import Row, Seen, Setting
from tests.front import front
from tests.gridgov import Gridgov, report
from tests.system.refusals import ask
from tests.system.smuggling import CASES, HONEST, Case, all_tried
from tests.system.test_answers import bombed
from tests.system.test_edge import GOOD, UNREADABLE, with_extra


def smuggled(setting: Setting, cases: Mapping[str, Case] = CASES) -> Seen:
    """Each request, with another hidden in it, through nginx and straight to us."""
    with guarded(setting) as (own, key), front(setting.directory / "front", own.port) as before:
        found = all_tried(cases, own, key, before)
    wrong = {name for name, case in cases.items() if found[name] != (case.behind, case.direct, False)}
    return judged(
        wrong, f"{len(cases)} requests both ways, {sum(one.heard for one in found.values())} hidden ones taken"
    )


# ---- JSON ----

NO_NUMBERS = [
    "01",
    "+1",
    ".5",
    "5.",
    "1e",
    "1e+",
    "0x1",
    "1_000",
    "-",
    "--1",
    "1.2.3",
    "1e1.5",
    "Inf",
    "１",
    "1e400",
    "-1e400",
    "0b1",
    "1f",
    "1L",
    "0e",
]
NO_TEXTS = [r'"\x41"', r'"\u12"', r'"\u00zz"', r'"\'"', r'"\a"', '"\t"', '"\x1f"', '"', "'a'", "`a`", r'"\ud800\u0041"']
NO_VALUES = ["True", "nul", "undefined", "None", "", ",", "[1,]", "[,1]", "[1 2]", "[1", "]", "{1:2}", "{a:1}", '{"a"}']
NO_VALUES += [
    '{"a":}',
    '{"a" "b"}',
    '{"a":1,}',
    '{,"a":1}',
    "/**/1",
    "1//",
    "#",
    "1 1",
    "(1)",
    "\xa01",
    "\u20281",
    "\f1",
]
NO_UTF8 = [b"\xc0\xaf", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xfe\xff", b"\x80", b"\xc3", b"\xf0\x9f\x98"]
READABLE = ["-0", "1E5", "1e-5", "0.1", "1e-400", "18446744073709551615", "-9223372036854775808", '""', '"\\u0041"']
READABLE += ['"\\ud83d\\ude00"', '"\\/"', '"\U00010348"', '"\u2028"', '"\\\\u0041"', " \t\r\n1 ", "[]", "{}", '{"":1}']
READABLE += ["[[1]]", '{"a":{"b":1}}', "[true,false,null]", '"' + "字" * 300 + '"']


def corpus() -> Iterator[tuple[str, bytes, str]]:
    """What is no JSON: a name, a whole report spelt like that, the code it is refused with."""
    yield from ((name, body, code) for name, (body, code) in UNREADABLE.items())
    for spelling in (*NO_NUMBERS, *NO_TEXTS, *NO_VALUES):
        yield spelling, with_extra(b'{"v":' + spelling.encode() + b"}"), "malformed_json"
    for number, raw in enumerate(NO_UTF8):
        yield f"not UTF-8 {number}", with_extra(b'{"v":"' + raw + b'"}'), "not_utf8"
    for at in range(1, len(GOOD), 7):
        cut = GOOD[:at]
        yield f"cut at {at}", cut, "malformed_json" if cut.decode(errors="ignore").encode() == cut else "not_utf8"


def spelt(number: int, spelling: str) -> bytes:
    """A report with a value spelt like that."""
    return orjson.dumps(report(f"read-{number}"))[:-1] + f',"extra":{{"v":{spelling}}}}}'.encode()


def read(setting: Setting, **odd: dict[str, Any]) -> Seen:
    """Each alone, and as a line of a batch between two good ones."""
    bad = list(corpus())
    with guarded(setting, odd) as (own, key):
        let_in = {"Authorization": f"Bearer {key}"}
        wrong = {name for name, body, code in bad if _alone(own, body, let_in) != (400, code)}
        lines = [one for one in bad if b"\n" not in one[1] and one[1].strip()]
        wrong |= {
            f"{name} in a batch" for name, body, code in lines if _in_batch(own, body, let_in) != [202, code, 202]
        }
        good = [spelt(number, spelling) for number, spelling in enumerate(READABLE)]
        wrong |= {body.decode() for body in good if ask(own, "POST", "/v1/reports", body, let_in).status != 202}
    return judged(wrong, f"{len(bad)} bodies alone, {len(lines)} as a line, {len(good)} that can be read")


def _alone(own: Gridgov, body: bytes, let_in: Mapping[str, str]) -> tuple[int, Any]:
    answer = ask(own, "POST", "/v1/reports", body, let_in)
    return answer.status, answer.json.get("code")


def _in_batch(own: Gridgov, body: bytes, let_in: Mapping[str, str]) -> list[Any]:
    before, behind = (orjson.dumps(report(f"{where}-line")) for where in ("before", "behind"))
    headers = {**let_in, "Content-Type": "application/x-ndjson"}
    answer = ask(own, "POST", "/v1/reports/batch", b"\n".join((before, body, behind)), headers)
    return [one["code"] or one["status"] for one in answer.json.get("results", [])]


# ---- bombs ----

MOST_GROWTH = 32  # MiB


def bombs(setting: Setting, **odd: dict[str, Any]) -> Seen:
    """Bodies of 250 kB that unpack to 240 MiB, and batches of 2 MB that unpack to 1.9 GiB."""
    times = 10 if setting.short or odd else 100
    with guarded(setting, odd) as (own, key):
        answers, grown = bombed(own, times, Authorization=f"Bearer {key}")
    refused = answers == {(413, "body_too_large")}
    figures = f"{2 * times} bombs, {' '.join(map(str, sorted(answers)))}, peak + {grown / (1 << 20):.1f} MiB"
    return Seen(refused and grown < MOST_GROWTH << 20, figures)


ROWS += [
    Row(
        "requests that two layers may read differently",
        "exact statuses direct and through nginx, 0 hidden taken",
        smuggled,
        partial(smuggled, cases={"two honest ones": HONEST}),
        "two honest requests instead of one",
        needs=("nginx",),
        in_short=True,
    ),
    Row(
        "JSON that is none, and odd JSON that is",
        "exact code alone and in a batch, what is JSON is taken",
        read,
        partial(read, lax_json={}),
        "reads as the standard library does",
        in_short=True,
    ),
    Row(
        "gzip bombs",
        f"413 each, peak memory + < {MOST_GROWTH} MiB",
        bombs,
        partial(bombs, inflates_all={"most": 64 << 20}),
        "unpacks before it looks",
        in_short=True,
    ),
]
