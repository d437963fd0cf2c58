"""The examples of the OpenAPI document: requests are the golden files, texts are those the API gives."""

from pathlib import Path
from typing import Any

import orjson

from schemas.fields import Json
from schemas.reasons import Lang, Reason, message

DIRECTORY = Path(__file__).parents[1] / "examples"
REQUEST_ID = "3f9c2a7d41b08e65"
RAILING, BOXES = "reported-repair-railing", "full"

RECEIPT: Json = {
    "report_id": "20201104-0001-1",
    "case_id": "202011040001",
    "topic": "gridgov.repair.road-traffic",
    "received_at": "2020-11-04T00:00:00.250Z",
    "duplicate": False,
    "state": "pending",
}
SETTLED = {"state": "settled", "partition": 1, "offset": 4711, "settled_at": "2020-11-04T00:00:00.262Z"}
REPEATED = {"duplicate": True}

INCIDENT: Json = {
    "report_id": "20201104-0007-1",
    "case_id": "202011040007",
    "kind": "incident",
    "category": "0501",
    "stage": "reported",
    "occurred_at": "2020-11-04 09:15:00",
    "location": {"address": "东大名路近公平路人行道", "street_code": "310109018"},
    "source": "video",
}


def _shown(summary: str, value: object) -> Json:
    return {"summary": summary, "value": value}


RECEIPTS = {
    "new": _shown("新收下 / new", RECEIPT),
    "duplicate": _shown("先前已收下 / accepted before", RECEIPT | REPEATED | SETTLED),
}
STATES = {
    "pending": _shown("待发布 / not yet published", RECEIPT),
    "settled": _shown("Kafka 已确认 / acknowledged by Kafka", RECEIPT | SETTLED),
    "parked": _shown("等待人工处理 / set aside", RECEIPT | {"state": "parked", "reason": "record_too_large"}),
}
READY = {
    "ready": {"value": {"status": "ready", "reasons": []}},
    "degraded": {"value": {"status": "degraded", "reasons": ["kafka_unreachable", "backlog_old"]}},
}
UNREADY = {"unready": {"value": {"status": "unready", "reasons": ["journal_full"]}}}

CASE: Json = {
    "case_id": "202011040001",
    "owner": "district-platform",
    "kind": "repair",
    "category": "0211",
    "phase": "in_progress",
    "supervision": "urgent",
    "campaign": {"name": "第三届进博会", "phase": "formal", "level": "一级"},
    "flags": [],
    "reopenings": 0,
    "stages": [
        {
            "stage": "reported",
            "occurred_at": "2020-11-04T00:00:00.000Z",
            "received_at": "2020-11-04T00:00:00.250Z",
            "sender": "district-platform",
            "report_id": "20201104-0001-1",
            "foreign": False,
        },
        {
            "stage": "arrived",
            "occurred_at": "2020-11-04T00:10:00.000Z",
            "received_at": "2020-11-04T00:10:01.120Z",
            "sender": "district-platform",
            "report_id": "20201104-0001-3",
            "foreign": False,
        },
    ],
    "standards": [
        {
            "standard": "arrival",
            "limit_seconds": 900,
            "started_at": "2020-11-04T00:00:00.000Z",
            "deadline": "2020-11-04T00:15:00.000Z",
            "elapsed_seconds": 600.0,
            "outcome": "met",
            "overdue": False,
        },
        {
            "standard": "completion",
            "limit_seconds": 86400,
            "started_at": "2020-11-04T00:00:00.000Z",
            "deadline": "2020-11-05T00:00:00.000Z",
            "elapsed_seconds": 3600.5,
            "outcome": None,
            "overdue": False,
        },
    ],
    "as_of": "2020-11-04T01:00:00.500Z",
}
ONE_CASE = {"railing": _shown("隔离栏：已到场 / the railing: staff on site", CASE)}
CASES = {
    "last": _shown("末页 / the last page", {"cases": [CASE], "next": None, "as_of": "2020-11-04T01:00:00.500Z"}),
}

CATALOGUE = {
    "excerpt": _shown(
        "节选 / an excerpt",
        {
            "edition": "cjt214-2007",
            "title": "CJ/T 214-2007 城市管理部件和事件分类与编码（与 GB/T 30428.2 同族）",
            "district": {"code": "310109", "zh": "虹口区", "en": "Hongkou District"},
            "kinds": [
                {
                    "kind": "repair",
                    "zh": "部件",
                    "en": "repair",
                    "majors": [
                        {"major": "02", "zh": "道路交通", "en": "road traffic", "topic": "gridgov.repair.road-traffic"}
                    ],
                    "categories": [{"code": "0211", "zh": "交通护栏", "en": "traffic guardrail"}],
                    "standards": [
                        {
                            "standard": "arrival",
                            "limit_seconds": 900,
                            "category": None,
                            "zh": "到场",
                            "en": "staff on site",
                        }
                    ],
                }
            ],
            "stages": [{"stage": "reported", "zh": "上报", "en": "reported"}],
            "streets": [],
        },
    )
}


def report(name: str) -> dict[str, Any]:
    """A golden valid report."""
    found: dict[str, Any] = orjson.loads((DIRECTORY / "valid" / f"{name}.json").read_bytes())
    return found


def reports() -> dict[str, Json]:
    """Bodies of a single post."""
    return {
        "repair": _shown("部件上报：隔离栏 / a repair: the railing", report(RAILING)),
        "incident": _shown("事件上报 / an incident", INCIDENT),
        "arrived": _shown("到场，毫秒时间戳 / arrived, time in milliseconds", report("arrived-epoch-milliseconds")),
        "finished": _shown("处置完毕，附图 / finished, with a picture", report("finished-with-picture")),
        "full": _shown("全部字段 / every field", report(BOXES)),
    }


def array() -> dict[str, Json]:
    """A batch as a JSON array."""
    return {"two": _shown("两份 / two reports", [report(RAILING), report(BOXES)])}


def ndjson() -> dict[str, Json]:
    """The same batch as NDJSON."""
    lines = b"".join(orjson.dumps(report(name), option=orjson.OPT_APPEND_NEWLINE) for name in (RAILING, BOXES))
    return {"two": _shown("两份 / two reports", lines.decode())}


def _result(index: int, report_id: str | None, reason: Reason | None = None, *errors: Json) -> Json:
    return {
        "index": index,
        "report_id": report_id,
        "status": reason.status if reason else 202,
        "duplicate": False,
        "code": reason,
        "errors": list(errors),
        "retryable": reason.retryable if reason else False,
    }


def _error(pointer: str, reason: Reason, lang: Lang = "zh", **params: object) -> Json:
    return {"pointer": pointer, "code": reason, "message": message(reason, lang, **params)}


ACCEPTED = [_result(0, "20201104-0001-1"), _result(1, "20201104-0002-1") | REPEATED]
BATCH = {
    "all": _shown(
        "全部收下，一份先前已收下 / all accepted, one of them before",
        {"accepted": 1, "duplicates": 1, "failed": 0, "results": ACCEPTED},
    )
}


def mixed_batch() -> dict[str, Json]:
    """A batch some of whose items were refused."""
    wrong = _error("/location", Reason.LOCATION_REQUIRED)
    refused = [
        _result(2, "20201104-0003-1", Reason.CONFLICT, _error("", Reason.CONFLICT)),
        _result(3, "20201104-0004-1", Reason.INVALID_REPORT, wrong),
        _result(4, None, Reason.MALFORMED_JSON, _error("", Reason.MALFORMED_JSON)),
    ]
    answer = {"accepted": 1, "duplicates": 1, "failed": 3, "results": ACCEPTED + refused}
    return {"mixed": _shown("两份收下，三份未收 / two accepted, three not", answer)}


def problem(reason: Reason, **params: object) -> dict[str, Json]:
    """The problem document of a reason; of a wrong report in both languages."""
    if reason is not Reason.INVALID_REPORT:
        return {
            reason.value: _shown(f"{reason.zh} / {reason.en}".format_map(params), _document(reason, "zh", **params))
        }
    return {
        "invalid_report": _shown("Accept-Language: zh", _document(reason, "zh") | {"errors": _wrong("zh")}),
        "invalid_report_en": _shown("Accept-Language: en", _document(reason, "en") | {"errors": _wrong("en")}),
    }


def _document(reason: Reason, lang: Lang, **params: object) -> Json:
    return {
        "type": f"urn:gridgov:problem:{reason}",
        "title": message(reason, lang, **params),
        "status": reason.status,
        "code": reason,
        "request_id": REQUEST_ID,
        "retryable": reason.retryable,
        "errors": [],
    }


def _wrong(lang: Lang) -> list[Json]:
    return [
        _error("/category", Reason.UNKNOWN_CATEGORY, lang),
        _error("/location/address", Reason.REQUIRED, lang),
        _error("/occurred_at", Reason.FUTURE_TIME, lang, limit_seconds=300),
    ]
