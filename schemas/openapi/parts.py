"""What the operations of the OpenAPI document are put together from: answers, problems, headers."""

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.fields import Json
from schemas.openapi import examples
from schemas.openapi.shapes import ref
from schemas.reasons import Reason

REPORT_BYTES = 256 * 1024
BATCH_BYTES = 2 * 1024 * 1024
BATCH_REPORTS = 1000
QUOTA = ("RateLimit", "RateLimit-Policy")
NOBODY: list[Json] = []
STATUS = {
    400: "无法读取 / cannot be read",
    401: "缺少有效密钥 / no valid key",
    403: "密钥不允许：角色、范围或来源地址 / the key does not allow it: its role, its scope, or where it comes from",
    404: "没有找到 / not found",
    409: "同一 report_id，不同内容 / same report_id, other content",
    413: "过大 / too large",
    415: "媒体类型或编码不支持 / media type or encoding not supported",
    422: "可读但有误 / understood but wrong",
    429: "过于频繁；请按 Retry-After 稍候重发 / too often; wait for Retry-After, send the same again",
    500: "内部错误；未作承诺 / internal error; nothing is promised",
    503: "日志库不能接收；未作承诺，请整个重发 / the journal cannot accept; nothing is promised, send all again",
}


def problems(*reasons: Reason, media: str = "", limit: int = 0) -> dict[str, Json]:
    """Responses by status, with an example for each reason. `media`, `limit`: what the texts name, if they do."""
    by_status: dict[int, dict[str, Json]] = {}
    for reason in reasons:
        shown = examples.problem(reason, choices=media, limit=_limit(reason, limit))
        by_status.setdefault(reason.status or 422, {}).update(shown)
    return {str(status): _problem(status, shown) for status, shown in by_status.items()}


def _limit(reason: Reason, bytes_: int) -> int:
    return BATCH_REPORTS if reason is Reason.TOO_MANY_REPORTS else bytes_


def _problem(status: int, shown: Mapping[str, Json]) -> Json:
    extra = {401: ["WWW-Authenticate"], 429: ["Retry-After", *QUOTA], 503: ["Retry-After"]}.get(status, [])
    return {
        "description": STATUS[status],
        "content": {"application/problem+json": {"schema": ref("Problem"), "examples": dict(shown)}},
        "headers": headers("Content-Language", *extra),
    }


def answer(about: str, schema: str, shown: Mapping[str, Json], *more: str) -> Json:
    """A JSON response; `more` are its headers beside `X-Request-Id`."""
    content = {"application/json": {"schema": ref(schema), "examples": dict(shown)}}
    return {"description": about, "content": content, "headers": headers(*more)}


def headers(*names: str) -> Json:
    """The headers of a response."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def body(content: Json) -> Json:
    """A request body that must be there."""
    return {"required": True, "content": content}


def operation(
    operation_id: str,
    tag: str,
    summary: str,
    about: str,
    *,
    responses: Json,
    security: Iterable[Json] = NOBODY,
    **rest: Any,
) -> Json:
    described = {"operationId": operation_id, "tags": [tag], "summary": summary, "description": about}
    rest |= {"security": list(security), "responses": responses | {"default": "Other"}}
    return described | rest


OTHER: Json = {
    "description": (
        "其他：Host 400，路径 404，方法 405（附 Allow），内部 500 / "
        "else: Host 400, path 404, method 405 with Allow, ours 500"
    ),
    "content": {
        "application/problem+json": {
            "schema": ref("Problem"),
            "examples": {
                name: shown
                for reason in (Reason.BAD_HOST, Reason.NOT_FOUND, Reason.METHOD_NOT_ALLOWED, Reason.INTERNAL_ERROR)
                for name, shown in examples.problem(reason).items()
            },
        }
    },
    "headers": headers("Content-Language", "Allow"),
}
