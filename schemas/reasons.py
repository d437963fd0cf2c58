"""Every reason we may give for not taking something: one code, read as JSON `code`, log field and metric label.

A row is: code, Chinese, English[, HTTP status[, retryable]]. The texts are templates; what may stand in them is
a limit, a list of choices or a pattern of ours, never anything the client sent. Rows without a status explain one
field of a report (they stand in `errors[]`); rows with one are the `code` of a whole answer or of a batch item.
Codes are part of the wire contract: add rows, never rename one.
"""

from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

Lang = Literal["zh", "en"]


class Reason(StrEnum):
    """A stable code with its texts. `status`: None if about one field. `retryable`: the same may pass later."""

    zh: str
    en: str
    status: int | None
    retryable: bool

    # the texts have defaults only so that `Reason("conflict")`, the lookup, satisfies a type checker
    def __new__(
        cls, code: str, zh: str = "", en: str = "", status: int | None = None, retryable: bool = False
    ) -> "Reason":
        member = str.__new__(cls, code)
        member._value_ = code
        member.zh, member.en, member.status, member.retryable = zh, en, status, retryable
        return member

    # one field of a report: presence and type
    REQUIRED = "required", "缺少必填字段", "this field is required"
    UNKNOWN_FIELD = "unknown_field", "没有这个字段", "there is no such field"
    NULL = "null", "列表中不能有 null；没有时请去掉该项", "a list must not hold null; leave the item out instead"
    WRONG_TYPE = "wrong_type", "类型错误，应为 {expected}", "wrong type, expected {expected}"
    # one field: its value
    TOO_LONG = "too_long", "过长，最多 {limit} 个字符", "too long, at most {limit} characters"
    TOO_SHORT = "too_short", "过短或为空白，至少 {limit} 个字符", "too short or blank, at least {limit} characters"
    BAD_FORMAT = "bad_format", "格式错误，应符合 {pattern}", "wrong format, expected {pattern}"
    NOT_ALLOWED = "not_allowed", "取值不允许，可选：{choices}", "not one of the allowed values: {choices}"
    OUT_OF_RANGE = "out_of_range", "超出范围 {least} 至 {most}", "out of range, from {least} to {most}"
    CONTROL_CHARACTER = (
        "control_character",
        "含有控制字符（只允许换行和制表符；单独的 CR 也不行）",
        "contains a control character (only newline and tab are allowed, no CR by itself)",
    )
    LONE_SURROGATE = "lone_surrogate", "含有不成对的代理码位", "contains a lone surrogate"
    NOT_FINITE = "not_finite", "必须是有限的数", "must be a finite number"
    TOO_MANY_ITEMS = "too_many_items", "项目过多，最多 {limit} 个", "too many items, at most {limit}"
    TOO_DEEP = "too_deep", "嵌套过深，最多 {limit} 层", "nested too deeply, at most {limit} levels"
    TOO_LARGE = "too_large", "过大，最多 {limit} 字节", "too large, at most {limit} bytes"
    BAD_URL = (
        "bad_url",
        "不是合法的 https 地址（不得含用户名或口令，非 ASCII 字符须百分号编码）",
        "not an https URL (no user or password in it, non-ASCII characters percent-encoded)",
    )
    BAD_TIME = (
        "bad_time",
        "时间无法识别：请用带时区的 RFC 3339、yyyy-MM-dd HH:mm:ss（北京时间）或毫秒时间戳",
        "not a time: use RFC 3339 with an offset, yyyy-MM-dd HH:mm:ss (Asia/Shanghai) or epoch milliseconds",
    )
    # one field: what it means beside the others, the clock or the catalogue
    FUTURE_TIME = (
        "future_time",
        "时间晚于本机时钟 {limit_seconds} 秒以上",
        "more than {limit_seconds} seconds ahead of our clock",
    )
    LOCATION_REQUIRED = "location_required", "上报（reported）时必须给出位置", "required when stage is reported"
    CRS_REQUIRED = "crs_required", "给出 x、y 时必须注明坐标系", "required when x and y are given"
    COORDINATES_REQUIRED = (
        "coordinates_required",
        "x、y 与坐标系必须同时给出",
        "x, y and crs must be given together",
    )
    SWAPPED_AXES = (
        "swapped_axes",
        "x 像纬度而 y 像经度：请检查是否颠倒（x 为经度，y 为纬度）",
        "x looks like a latitude and y like a longitude: swap them (x is the longitude, y the latitude)",
    )
    COMPONENT_CONTRADICTS_CATEGORY = (
        "component_contradicts_category",
        "部件编码第 7–10 位与类别代码不一致",
        "digits 7-10 of the component id differ from the category",
    )
    UNKNOWN_CATEGORY = "unknown_category", "目录中没有这个类别", "the catalogue has no such category"
    CATEGORY_OF_OTHER_KIND = (
        "category_of_other_kind",
        "该类别属于 {kind}，与 kind 不符",
        "this category belongs to {kind}, not to the kind given",
    )
    OUTSIDE_SCOPE = (
        "outside_scope",
        "该凭据不能上报这一类案件",
        "this key may not report this kind or category",
    )
    TOO_MANY_PROBLEMS = (
        "too_many_problems",
        "问题过多，只列出前 {limit} 个",
        "too many problems, only the first {limit} are listed",
    )

    # 400: cannot be read
    MALFORMED_JSON = "malformed_json", "不是合法的 JSON", "not valid JSON", 400
    DUPLICATE_KEY = "duplicate_key", "JSON 对象中有重复的键", "a JSON object has the same key twice", 400
    NUMBER_TOO_BIG = "number_too_big", "整数超出 64 位", "an integer does not fit in 64 bits", 400
    NESTED_TOO_DEEP = "nested_too_deep", "JSON 嵌套过深", "the JSON is nested too deeply", 400
    NOT_UTF8 = "not_utf8", "不是合法的 UTF-8（也不得带 BOM）", "not valid UTF-8 (and no byte order mark)", 400
    EMPTY_BODY = "empty_body", "请求体为空", "the body is empty", 400
    TRUNCATED_BODY = "truncated_body", "请求体不完整", "the body ended before it was complete", 400, True
    BAD_GZIP = "bad_gzip", "不是合法的 gzip", "not valid gzip", 400
    BAD_LENGTH = (
        "bad_length",
        "Content-Length 错误或缺失（仅 application/json 可分块发送）",
        "bad Content-Length or none (only application/json may be sent in chunks)",
        400,
    )
    BAD_HOST = "bad_host", "必须有且只有一个合法的 Host", "exactly one valid Host is needed", 400
    NOT_AN_OBJECT = "not_an_object", "应为一个 JSON 对象", "expected one JSON object", 400
    NOT_AN_ARRAY = "not_an_array", "应为 JSON 数组或 NDJSON", "expected a JSON array or NDJSON", 400
    BAD_PARAMETER = "bad_parameter", "查询参数错误", "a query parameter is wrong", 400
    # 401 and 403: who is asking
    UNAUTHENTICATED = "unauthenticated", "需要有效的凭据", "valid credentials are required", 401
    BAD_SIGNATURE = "bad_signature", "请求签名错误", "the request signature is wrong", 401
    STALE_TIMESTAMP = (
        "stale_timestamp",
        "签名时间与本机时钟相差过大",
        "the signature's timestamp is too far from our clock",
        401,
    )
    FORBIDDEN = "forbidden", "该凭据无权这样做", "this key may not do that", 403
    WRONG_NETWORK = (
        "wrong_network",
        "该凭据不能从这个地址使用",
        "this key may not be used from this address",
        403,
    )
    # the other 4xx
    NOT_FOUND = "not_found", "没有找到", "not found", 404
    METHOD_NOT_ALLOWED = "method_not_allowed", "不支持该方法", "method not allowed", 405
    CONFLICT = (
        "conflict",
        "该 report_id 已用于另一份内容不同的上报",
        "this report_id was already used for a report with other content",
        409,
    )
    BODY_TOO_LARGE = (
        "body_too_large",
        "请求体过大，最多 {limit} 字节",
        "the body is too large, at most {limit} bytes",
        413,
    )
    TOO_MANY_REPORTS = (
        "too_many_reports",
        "一批最多 {limit} 份上报",
        "at most {limit} reports in one batch",
        413,
    )
    UNSUPPORTED_MEDIA_TYPE = (
        "unsupported_media_type",
        "Content-Type 不支持，可用：{choices}",
        "unsupported Content-Type, use {choices}",
        415,
    )
    UNSUPPORTED_ENCODING = (
        "unsupported_encoding",
        "Content-Encoding 不支持，可用：gzip",
        "this Content-Encoding is not supported, use gzip or none",
        415,
    )
    INVALID_REPORT = "invalid_report", "上报内容有误，见 errors", "the report is wrong, see errors", 422
    EMPTY_BATCH = "empty_batch", "批次中没有上报", "the batch has no reports", 422
    RATE_LIMITED = "rate_limited", "请求过于频繁，请稍后重试", "too many requests, try again later", 429, True
    # 5xx: nothing was promised, the same report_id may be sent again
    INTERNAL_ERROR = (
        "internal_error",
        "内部错误；可用同一 report_id 重发",
        "internal error; send it again under the same report_id",
        500,
        True,
    )
    JOURNAL_FULL = (
        "journal_full",
        "日志库已满，请稍后用同一 report_id 重发",
        "the journal is full; send it again later under the same report_id",
        503,
        True,
    )
    JOURNAL_UNAVAILABLE = (
        "journal_unavailable",
        "日志库暂不可写，请稍后用同一 report_id 重发",
        "the journal cannot be written now; send it again later under the same report_id",
        503,
        True,
    )
    OVERLOADED = (
        "overloaded",
        "系统繁忙，请稍后用同一 report_id 重发",
        "overloaded; send it again later under the same report_id",
        503,
        True,
    )
    SHUTTING_DOWN = (
        "shutting_down",
        "服务正在停止，请稍后用同一 report_id 重发",
        "shutting down; send it again later under the same report_id",
        503,
        True,
    )


def message(reason: Reason, lang: Lang, **params: object) -> str:
    """The text of a reason. A parameter nobody gave reads as an ellipsis: an error answer must never fail itself."""
    known = defaultdict(lambda: "…", {name: _text(value) for name, value in params.items()})
    return (reason.zh if lang == "zh" else reason.en).format_map(known)


def _text(value: object) -> str:
    listed = isinstance(value, Iterable) and not isinstance(value, str)
    return ", ".join(map(str, value)) if listed else str(value)  # type: ignore[call-overload]
