"""Many reports in one request: each gets its own answer, and one bad one never sinks the others."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.gridgov import Gridgov, report
from tests.system.refusals import ENGLISH, PLATFORM, Answer, ask, in_language, pointers, refusal

BATCH = "/v1/reports/batch"
NDJSON = {"Content-Type": "application/x-ndjson"}
RESULT = {"index", "report_id", "status", "duplicate", "code", "errors", "retryable"}


def batch(name: str, count: int) -> list[dict[str, Any]]:
    return [report(f"{name}{number}") for number in range(count)]


def ndjson(items: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(item) + b"\n" for item in items)


def post(gridgov: Gridgov, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """Post a batch, and check what is true of the answer to any."""
    answer = ask(gridgov, "POST", BATCH, body, headers)
    results = answer.json["results"]
    accepted = [one for one in results if one["status"] == 202]
    duplicates = [one for one in accepted if one["duplicate"]]
    assert answer.json.keys() == {"accepted", "duplicates", "failed", "results"}
    assert [one["index"] for one in results] == list(range(len(results)))
    assert all(one.keys() == RESULT for one in results)
    assert all((one["code"], one["errors"], one["retryable"]) == (None, [], False) for one in accepted)
    assert answer.json["duplicates"] == len(duplicates)
    assert answer.json["accepted"] == len(accepted) - len(duplicates)
    assert answer.json["failed"] == len(results) - len(accepted)
    assert answer.status == (202 if len(accepted) == len(results) else 207)
    return answer


def failed(answer: Answer) -> dict[int, tuple[str | None, int, str, list[tuple[str, str]]]]:
    """Report id, status, code and pointers of the items that were refused, by index."""
    return {
        one["index"]: (one["report_id"], one["status"], one["code"], pointers(one["errors"]))
        for one in answer.json["results"]
        if one["status"] != 202
    }


def counts(answer: Answer) -> tuple[int, int, int]:
    return answer.json["accepted"], answer.json["duplicates"], answer.json["failed"]


# ---- all well ----


@pytest.mark.parametrize("as_ndjson", [False, True], ids=["array", "NDJSON"])
def test_all_good(shared: Gridgov, as_ndjson: bool) -> None:
    items = batch(f"good-{as_ndjson}-", 3)
    answer = post(shared, ndjson(items) if as_ndjson else items, NDJSON if as_ndjson else None)
    assert (answer.status, counts(answer)) == (202, (3, 0, 0))
    assert [one["report_id"] for one in answer.json["results"]] == [one["report_id"] for one in items]
    receipts = [shared.get(f"/v1/reports/{one['report_id']}")[1] for one in items]
    assert [receipt["case_id"] for receipt in receipts] == [one["case_id"] for one in items]


def test_lines_may_end_in_any_way_and_blank_ones_do_not_count(shared: Gridgov) -> None:
    first, second, third = (orjson.dumps(one) for one in batch("lines", 3))
    answer = post(shared, b"\n\r\n" + first + b"\r\n \t\n" + second + b"\n\n" + third, NDJSON)
    assert (answer.status, counts(answer)) == (202, (3, 0, 0))


def test_sending_a_batch_again_is_safe(shared: Gridgov) -> None:
    items = batch("again", 5)
    assert counts(post(shared, items)) == (5, 0, 0)
    answer = post(shared, ndjson(items[::-1] + batch("more", 2)), NDJSON)
    assert (answer.status, counts(answer)) == (202, (2, 5, 0))
    assert [one["duplicate"] for one in answer.json["results"]] == [True] * 5 + [False] * 2


# ---- some bad ones ----


@pytest.mark.parametrize("as_ndjson", [False, True], ids=["array", "NDJSON"])
def test_three_bad_ones_in_a_thousand(shared: Gridgov, as_ndjson: bool) -> None:
    name = f"thousand-{as_ndjson}-"
    shared.post(report(f"{name}999", description="was here first"))
    items: list[Any] = batch(name, 1000)
    items[0] = ["no", "object"]
    items[500] |= {"case_id": "case 500"}
    answer = post(shared, ndjson(items) if as_ndjson else items, NDJSON if as_ndjson else None)
    assert (answer.status, counts(answer)) == (207, (997, 0, 3))
    assert failed(answer) == {
        0: (None, 400, "not_an_object", [("", "not_an_object")]),
        500: (f"r-{name}500", 422, "invalid_report", [("/case_id", "bad_format")]),
        999: (f"r-{name}999", 409, "conflict", [("", "conflict")]),
    }
    kept = {index: shared.get(f"/v1/reports/r-{name}{index}")[0] for index in (1, 499, 500, 501, 998)}
    assert kept == {1: 200, 499: 200, 500: 404, 501: 200, 998: 200}


def test_an_id_twice_in_one_batch(shared: Gridgov) -> None:
    first = report("twice")
    respelt = dict(reversed(first.items())) | {"occurred_at": 1604448000000}
    answer = post(shared, [first, respelt, first | {"stage": "arrived"}, report("once"), first])
    assert (answer.status, counts(answer)) == (207, (2, 2, 1))
    assert [one["duplicate"] for one in answer.json["results"]] == [False, True, False, False, True]
    assert failed(answer) == {2: ("r-twice", 409, "conflict", [("", "conflict")])}


def test_a_repeat_of_a_bad_one_is_bad_again(shared: Gridgov) -> None:
    bad = report("bad-then-good", stage="seen")
    answer = post(shared, [bad, report("bad-then-good"), bad])
    refused = ("r-bad-then-good", 422, "invalid_report", [("/stage", "not_allowed")])
    assert failed(answer) == {0: refused, 2: refused}
    assert counts(answer) == (1, 0, 2)


BAD_LINES = {
    b"{": "malformed_json",
    b'{"a":1,"a":2}': "duplicate_key",
    b'{"n":NaN}': "malformed_json",
    b'\xef\xbb\xbf{"a":1}': "not_utf8",
    "杨树浦路".encode("gbk"): "not_utf8",
    b'{"n":99999999999999999999}': "number_too_big",
    b"[" * 1100 + b"]" * 1100: "nested_too_deep",
    b"[]": "not_an_object",
    b"null": "not_an_object",
}


def test_a_line_that_cannot_be_read_is_that_items_problem(shared: Gridgov) -> None:
    good = orjson.dumps(report("between"))
    answer = post(shared, b"\n".join([*BAD_LINES, good]), NDJSON)
    assert failed(answer) == {index: (None, 400, code, [("", code)]) for index, code in enumerate(BAD_LINES.values())}
    assert (answer.status, counts(answer)) == (207, (1, 0, len(BAD_LINES)))
    assert shared.get("/v1/reports/r-between")[0] == 200


@pytest.mark.parametrize(
    ("body", "headers"),
    [([{}, 1, None], {}), (b"{\n[]\n{}", NDJSON), ([{}], {})],
    ids=["array", "NDJSON", "one"],
)
def test_all_bad_is_207_too(shared: Gridgov, body: Any, headers: dict[str, str]) -> None:
    answer = post(shared, body, headers)
    assert (answer.status, answer.json["accepted"], answer.json["duplicates"]) == (207, 0, 0)


def test_the_id_of_a_bad_one_is_named_if_it_is_one(shared: Gridgov) -> None:
    items = [report("named", kind=None), report("x", report_id="not an id"), report("x", report_id=5), {}]
    assert [one["report_id"] for one in post(shared, items).json["results"]] == ["r-named", None, None, None]


@pytest.mark.parametrize(("wish", "lang"), [({}, "zh"), (PLATFORM, "zh"), (ENGLISH, "en")], ids=["none", "zh", "en"])
def test_the_results_speak_the_clients_language(shared: Gridgov, wish: dict[str, str], lang: str) -> None:
    taken = report("language")
    shared.post(taken)
    answer = post(shared, [{}, taken | {"stage": "note"}, None], wish)
    texts = [error["message"] for one in answer.json["results"] for error in one["errors"]]
    assert len(texts) == 8
    assert all(in_language(text, lang) for text in texts)


@pytest.mark.parametrize(("wish", "lang"), [(PLATFORM, "zh"), (ENGLISH, "en")], ids=["zh", "en"])
def test_the_answer_says_which_language_it_speaks(shared: Gridgov, wish: dict[str, str], lang: str) -> None:
    headers = post(shared, [{}], wish).headers
    assert (headers.get("Content-Language"), headers.get("Vary")) == (lang, "Accept-Language")


# ---- the whole request is refused ----


def test_a_thousand_is_the_most(shared: Gridgov) -> None:
    items = batch("most", 1001)
    for body, headers in ((items, {}), (ndjson(items), NDJSON)):
        assert refusal(shared, body, path=BATCH, headers=headers) == (413, "too_many_reports", [])
        assert "1000" in ask(shared, "POST", BATCH, body, headers).json["title"]
    assert shared.get("/v1/reports/r-most0")[0] == 404
    assert counts(post(shared, items[:1000])) == (1000, 0, 0)


@pytest.mark.parametrize(
    ("body", "headers"), [(b"[]", {}), (b"", NDJSON), (b"\n \r\n\n", NDJSON)], ids=["array", "NDJSON", "blank lines"]
)
def test_an_empty_batch(shared: Gridgov, body: bytes, headers: dict[str, str]) -> None:
    assert refusal(shared, body, path=BATCH, headers=headers) == (422, "empty_batch", [])


GOOD = orjson.dumps(report("array"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" + GOOD, "malformed_json"),
        (b"[" + GOOD + b",]", "malformed_json"),
        (b"[" + GOOD + b',{"a":1,"a":2}]', "duplicate_key"),
        (b"[" + GOOD + b',{"n":NaN}]', "malformed_json"),
        (b"\xef\xbb\xbf[" + GOOD + b"]", "not_utf8"),
        (b"", "empty_body"),
        (GOOD, "not_an_array"),
        (GOOD + b"\n" + GOOD, "malformed_json"),  # NDJSON under the wrong name
        (b'{"reports":[' + GOOD + b"]}", "not_an_array"),
        (b"null", "not_an_array"),
    ],
)
def test_an_array_that_cannot_be_read(shared: Gridgov, body: bytes, code: str) -> None:
    assert refusal(shared, body, path=BATCH) == (400, code, [])
    assert shared.get("/v1/reports/r-array")[0] == 404


@pytest.mark.parametrize("content_type", ["text/plain", "application/ndjson", "application/x-ndjson; charset=gbk"])
def test_another_content_type(shared: Gridgov, content_type: str) -> None:
    answer = refusal(shared, GOOD, path=BATCH, headers={"Content-Type": content_type})
    assert answer == (415, "unsupported_media_type", [])


def test_refused_items_are_counted_like_refused_reports(shared: Gridgov) -> None:
    def refused() -> dict[str, float]:
        prefix = "gridgov_report_rejections_total"
        return {name: n for name, n in shared.metrics().items() if name.startswith(prefix)}

    before = refused()
    post(shared, [report("c", colour=1), report("c", colour=1, kind=None), None])
    risen = {name: n - before[name] for name, n in refused().items() if n != before[name]}
    assert risen == {
        'gridgov_report_rejections_total{reason="unknown_field"}': 2,
        'gridgov_report_rejections_total{reason="required"}': 1,
        'gridgov_report_rejections_total{reason="not_an_object"}': 1,
    }
