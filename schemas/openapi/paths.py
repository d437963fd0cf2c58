"""The operations of the API as OpenAPI 3.1 tells them: one function each, in the order of the document."""

from schemas.fields import Json
from schemas.openapi import examples
from schemas.openapi.cases import PHASES
from schemas.openapi.parts import (
    BATCH_BYTES,
    BATCH_REPORTS,
    QUOTA,
    REPORT_BYTES,
    answer,
    body,
    headers,
    operation,
    problems,
)
from schemas.openapi.shapes import ID, one_of, ref
from schemas.promise import PROMISE, PROMISE_ZH
from schemas.reasons import Reason
from schemas.report import says
from schemas.words import Kind, Supervision

PAGE_CASES, MOST_CASES = 100, 1000
SENDER: list[Json] = [{"key": ["sender"]}, {"signature": ["sender"]}]
EITHER: list[Json] = [*SENDER, {"key": ["reader"]}, {"signature": ["reader"]}]

UNREADABLE = (
    Reason.MALFORMED_JSON,
    Reason.DUPLICATE_KEY,
    Reason.NUMBER_TOO_BIG,
    Reason.NESTED_TOO_DEEP,
    Reason.NOT_UTF8,
    Reason.EMPTY_BODY,
    Reason.TRUNCATED_BODY,
    Reason.BAD_GZIP,
    Reason.BAD_LENGTH,
)
ANYBODY = (
    Reason.UNAUTHENTICATED,
    Reason.BAD_SIGNATURE,
    Reason.STALE_TIMESTAMP,
    Reason.WRONG_NETWORK,
    Reason.RATE_LIMITED,
)
WHO = (*ANYBODY, Reason.FORBIDDEN)
MEDIA = (Reason.UNSUPPORTED_MEDIA_TYPE, Reason.UNSUPPORTED_ENCODING)
NOT_KEPT = (Reason.JOURNAL_FULL, Reason.JOURNAL_UNAVAILABLE, Reason.OVERLOADED)
OWN_PORT = (
    "同时在各进程自己的端口（web 9464，relay 9465）提供，不与收报排队。"
    "在本端口只对 `reader` 与可信网段（GRIDGOV_TRUSTED_NETWORKS，默认本机）开放。 / "
    "Also on each process's own port (web 9464, relay 9465), where it never queues behind intake. On this port for a "
    "`reader` and trusted networks only (GRIDGOV_TRUSTED_NETWORKS; by default this machine)."
)
WATCHER: list[Json] = [{}, {"key": ["reader"]}, {"signature": ["reader"]}]


def described() -> dict[str, Json]:
    """Every path of the API with its operations by method."""
    return {
        "/v1/reports": {"post": post_report()},
        "/v1/reports/batch": {"post": post_batch()},
        "/v1/reports/{report_id}": {"get": get_receipt()},
        "/v1/cases": {"get": get_cases()},
        "/v1/cases/{case_id}": {"get": get_case()},
        "/v1/catalogue": {"get": get_catalogue()},
        "/livez": {"get": get_livez()},
        "/readyz": {"get": get_readyz()},
        "/metrics": {"get": get_metrics()},
        "/openapi.json": {"get": get_document()},
        "/docs": {"get": get_page()},
        "/docs/assets/{filename}": {"get": get_asset()},
        "/docs/{language}/{filename}": {"get": get_guide()},
    }


def post_report() -> Json:
    """POST /v1/reports."""
    given = examples.reports()
    promised = answer(f"{PROMISE_ZH}\n\n{PROMISE}", "Receipt", examples.RECEIPTS, "Location", *QUOTA)
    return operation(
        "postReport",
        "reports",
        "上报一份 / Post one report",
        "一个 JSON 对象，至多 256 KiB。 / One JSON object, at most 256 KiB.",
        security=SENDER,
        parameters=["AcceptLanguage", "RequestId", "TraceParent"],
        requestBody=body({"application/json": {"schema": ref("Report"), "examples": given}}),
        responses={"202": promised}
        | problems(*UNREADABLE, Reason.NOT_AN_OBJECT, *WHO, Reason.CONFLICT, *MEDIA, media="application/json")
        | problems(Reason.BODY_TOO_LARGE, limit=REPORT_BYTES)
        | problems(Reason.INVALID_REPORT, Reason.INTERNAL_ERROR, *NOT_KEPT),
    )


def post_batch() -> Json:
    """POST /v1/reports/batch."""
    array = {"type": "array", "minItems": 1, "maxItems": BATCH_REPORTS, "items": ref("Report")}
    line = {"type": "string", "description": "每行一份 Report / one Report per line"}
    content = {
        "application/json": {"schema": array, "examples": examples.array()},
        "application/x-ndjson": {"schema": line, "examples": examples.ndjson()},
    }
    about = (
        "JSON 数组或 NDJSON，至多 1,000 份、2 MiB。收下的各项一并落盘；一项有误不影响其他。"
        "NDJSON 中无法读取的行是该项的 400；无法读取的数组是整个请求的 400。"
        "`503` 时一项也未承诺，请以同样的编号整批重发。\n\n"
        "A JSON array or NDJSON of at most 1,000 reports and 2 MiB. The good ones are flushed together; one bad item "
        "never sinks the others. A line that cannot be read is that item's 400, an unreadable array is the request's. "
        "After a `503` nothing is promised: send all again under the same ids."
    )
    kept = "全部收下；每份的承诺同单份上报 / every one was accepted, each with the promise of a single report"
    mixed = "至少一项未收下，见 results / at least one was not accepted, see results"
    return operation(
        "postReports",
        "reports",
        "成批上报 / Post a batch",
        about,
        security=SENDER,
        parameters=["AcceptLanguage", "RequestId", "TraceParent"],
        requestBody=body(content),
        responses={
            "202": answer(kept, "BatchAnswer", examples.BATCH),
            "207": answer(mixed, "BatchAnswer", examples.mixed_batch()),
        }
        | problems(*UNREADABLE, Reason.NOT_AN_ARRAY, *WHO, *MEDIA, media="application/json, application/x-ndjson")
        | problems(Reason.BODY_TOO_LARGE, Reason.TOO_MANY_REPORTS, limit=BATCH_BYTES)
        | problems(Reason.EMPTY_BATCH, Reason.INTERNAL_ERROR, *NOT_KEPT),
    )


def get_receipt() -> Json:
    """GET /v1/reports/{report_id}."""
    path = {"name": "report_id", "in": "path", "required": True, "schema": ID, "example": "20201104-0001-1"}
    return operation(
        "getReceipt",
        "reports",
        "查询回执 / Ask for a receipt",
        "只见自己发送的上报；别人的同样是 404。 / Your own reports only; another sender's is a 404 as well.",
        security=SENDER,
        parameters=[path, "AcceptLanguage", "RequestId"],
        responses={"200": answer("回执 / the receipt", "Receipt", examples.STATES)}
        | problems(*WHO, Reason.NOT_FOUND, Reason.INTERNAL_ERROR, Reason.JOURNAL_UNAVAILABLE),
    )


def get_cases() -> Json:
    """GET /v1/cases."""
    about = (
        "按条件查询，以 case_id 为序，逐页：把 `next` 作为 `cursor` 再问，直到它为 null。"
        "发送方只见自己的案件（最先上报者为其所有），`reader` 与密钥为 `cases: all` 的发送方全部可见。\n\n"
        "Cases by what is asked, in the order of their ids, page by page: ask again with `next` as `cursor` until it "
        "is null. A sender sees its own cases (those it reported first); a `reader`, and a sender whose key says "
        "`cases: all`, sees all."
    )
    asked = {
        "phase": (one_of(*PHASES), "阶段", "where the case stands"),
        "kind": (one_of(*Kind), "部件或事件", "repair or incident"),
        "supervision": (one_of(*Supervision), "督办等级", "how closely it is supervised"),
        "overdue": ({"type": "boolean"}, "现在是否有超时的标准", "whether a standard is overdue now"),
        "due_soon": ({"type": "boolean"}, "是否有标准即将超时", "whether a standard is due soon"),
        "campaign": ({"type": "string"}, "专项行动名称", "name of the campaign"),
        "limit": ({"type": "integer", "minimum": 1, "maximum": MOST_CASES, "default": PAGE_CASES}, "每页", "a page"),
        "cursor": (ID, "上一页的 next", "the `next` of the page before"),
    }
    query = [{"name": name, "in": "query", "schema": shape, **says(zh, en)} for name, (shape, zh, en) in asked.items()]
    return operation(
        "getCases",
        "cases",
        "查询案件 / Ask for cases",
        about,
        security=EITHER,
        parameters=[*query, "AcceptLanguage", "RequestId"],
        responses={"200": answer("一页 / a page", "CasePage", examples.CASES)}
        | problems(Reason.BAD_PARAMETER, *ANYBODY, Reason.INTERNAL_ERROR, Reason.JOURNAL_UNAVAILABLE),
    )


def get_case() -> Json:
    """GET /v1/cases/{case_id}."""
    path = {"name": "case_id", "in": "path", "required": True, "schema": ID, "example": "202011040001"}
    about = (
        "由全部已收下的上报归纳而成；`as_of` 之前收到的都已计入。别人的案件是 404，密钥为 `cases: all` 的除外。"
        "只能就自己的案件上报的发送方，对别人案件的上报会保留、列出并标记 `foreign_sender`，但不影响任何结论。\n\n"
        "The fold of all its accepted reports, those received up to `as_of`. A 404 for a sender whose case "
        "it is not, unless its key says `cases: all`. What a sender says that may speak of its own cases only is kept "
        "and shown in another's, flagged `foreign_sender`, and moves no outcome."
    )
    return operation(
        "getCase",
        "cases",
        "一个案件 / One case",
        about,
        security=EITHER,
        parameters=[path, "AcceptLanguage", "RequestId"],
        responses={"200": answer("案件 / the case", "Case", examples.ONE_CASE)}
        | problems(*ANYBODY, Reason.NOT_FOUND, Reason.INTERNAL_ERROR, Reason.JOURNAL_UNAVAILABLE),
    )


def get_catalogue() -> Json:
    """GET /v1/catalogue."""
    return operation(
        "getCatalogue",
        "catalogue",
        "目录 / The catalogue",
        "类别、主题、时限与环节，中英文。 / Categories, topics, promised times and stages, in both languages.",
        security=EITHER,
        parameters=["AcceptLanguage", "RequestId"],
        responses={"200": answer("目录 / the catalogue", "Catalogue", examples.CATALOGUE)}
        | problems(*ANYBODY, Reason.INTERNAL_ERROR),
    )


def get_livez() -> Json:
    """GET /livez."""
    about = "不询问进程之外的任何东西。 / Nothing outside the process is asked."
    responses = {
        "200": answer("存活 / alive", "Liveness", {"live": {"value": {"status": "live"}}}),
        "503": answer("应当重启 / to be restarted", "Liveness", {"dead": {"value": {"status": "dead"}}}, "Retry-After"),
    }
    return operation(
        "getLivez",
        "health",
        "存活探针 / Liveness",
        f"{about}\n\n{OWN_PORT}",
        security=WATCHER,
        responses=responses | problems(*WHO),
    )


def get_readyz() -> Json:
    """GET /readyz."""
    about = "Kafka 中断时仍可收报：degraded。 / While Kafka is down it still accepts: degraded."
    responses = {
        "200": answer("可以收报 / it accepts", "Readiness", examples.READY),
        "503": answer("不能收报 / it cannot accept", "Readiness", examples.UNREADY, "Retry-After"),
    }
    return operation(
        "getReadyz",
        "health",
        "就绪探针 / Readiness",
        f"{about}\n\n{OWN_PORT}",
        security=WATCHER,
        responses=responses | problems(*WHO),
    )


def get_metrics() -> Json:
    """GET /metrics."""
    formats = ("text/plain", "application/openmetrics-text")
    content = {media: {"schema": {"type": "string"}} for media in formats}
    responses = {"200": {"description": "Prometheus", "content": content, "headers": headers()}}
    return operation(
        "getMetrics", "health", "指标 / Metrics", OWN_PORT, security=WATCHER, responses=responses | problems(*WHO)
    )


def get_document() -> Json:
    """GET /openapi.json."""
    content = {"application/json": {"schema": {"type": "object"}}}
    responses = {"200": {"description": "OpenAPI 3.1", "content": content, "headers": headers()}}
    return operation("getOpenapi", "docs", "本文档 / This document", "由模式生成。 / Generated.", responses=responses)


def get_page() -> Json:
    """GET /docs."""
    about = "所需文件都在本机，不从别处加载。 / All it needs is on board; nothing is loaded from elsewhere."
    content = {"text/html": {"schema": {"type": "string"}}}
    responses = {"200": {"description": "网页 / the page", "content": content, "headers": headers()}}
    return operation("getDocs", "docs", "文档网页 / The page", about, responses=responses)


def get_asset() -> Json:
    """GET /docs/assets/{filename}."""
    about = "文档网页的脚本与样式。 / The page's scripts and styles."
    parameters = [in_path("filename", {"type": "string"}, "docs.js")]
    return operation("getDocsAsset", "docs", "网页的文件 / Its files", about, parameters=parameters, responses=a_file())


def get_guide() -> Json:
    """GET /docs/{language}/{filename}."""
    about = "使用手册：怎样上报、消费与运维。 / How to send, consume and operate."
    language = in_path("language", {"type": "string", "enum": ["zh", "en"]}, "zh")
    parameters = [language, in_path("filename", {"type": "string"}, "index.html")]
    return operation("getGuide", "docs", "使用手册 / The guide", about, parameters=parameters, responses=a_file())


def in_path(name: str, shape: Json, example: str) -> Json:
    """A parameter of a path."""
    return {"name": name, "in": "path", "required": True, "schema": shape, "example": example}


def a_file() -> Json:
    """The responses of whatever serves files."""
    content = {"*/*": {"schema": {"type": "string"}}}
    return {"200": {"description": "文件 / the file", "content": content, "headers": headers()}} | problems(
        Reason.NOT_FOUND
    )
