"""The OpenAPI 3.1 document of the API. Needed on a development machine only: the service serves what it generated."""

from apispec import APISpec

from schemas.fields import Json
from schemas.openapi import answers
from schemas.openapi.parts import OTHER
from schemas.openapi.paths import described
from schemas.promise import PROMISE, PROMISE_ZH

VERSION = "1.0.0"  # of the contract, not of the program: the `v1` of the paths
ABOUT = f"""\
城市网格案件上报入口：平台经 HTTP 上报，本系统校验、落盘，再按类别发布到 Kafka。

The front door for a district's repair and incident reports: validated, kept safe, published to Kafka by category.

## 承诺 / The promise

> {PROMISE_ZH}

> {PROMISE}

## 重发 / Sending again

- 同一 `report_id`、同一内容：`202`，返回**首次**的回执，`duplicate: true`。键的次序、数字与时间的写法不影响“同一内容”。
- 同一 `report_id`、不同内容：`409 conflict`，什么都不会写入。
- 编号至少记住 7 天（从发布到 Kafka 起，可配置）；更久之后再来的，按新上报收下。
- `retryable: true`、`5xx` 或没有应答：按 `Retry-After` 稍候，原样重发。其余 `4xx`：先改正，再发。

Same `report_id`, same content: `202` with the **first** receipt and `duplicate: true`; the order of keys and the \
spelling of numbers and times do not matter. Same `report_id`, other content: `409 conflict`, nothing is written. \
An id is remembered for at least 7 days from its publication to Kafka (configurable); later it is a new report. \
After `retryable: true`, a `5xx` or no answer: wait for `Retry-After`, send the same again. After any other `4xx`: \
mend it first.

## 请求体 / Bodies

UTF-8 JSON，可用 gzip 压缩（`Content-Encoding: gzip`），压缩前后都不得超过上限。\
`application/json` 可分块（chunked）发送；NDJSON 必须带 `Content-Length`，\
否则为 `400 bad_length`：在行尾处断开的看起来是完整的。\
单份上报至多 256 KiB；一批至多 2 MiB、1,000 份。未知字段与重复的键会被拒绝。

没有值的可选字段可以省略，也可以写 `null`；代码、取值固定的词和引用还可以写 `""`。三种写法是同一份上报。\
各项均无值的对象等于省略。必填字段写 `null` 即 `required`。文本中的 CR LF 读作一个换行。

UTF-8 JSON, as it is or as gzip (`Content-Encoding: gzip`), within the limits both packed and unpacked. \
`application/json` may be sent in chunks; NDJSON needs a `Content-Length`, else it is \
`400 bad_length`: cut off at the end of a line it would look complete. \
One report at most 256 KiB; a batch at most 2 MiB and 1,000 reports. Unknown fields and duplicate keys are refused.

An optional field that has no value may be left out or be `null`; a code, a word of a list or a reference may also be \
`""`. All of these are the same report. An object in which nothing is given counts as left out. A required field \
that is `null` is `required`. CR LF in a text is read as one newline.

## 错误 / Errors

RFC 9457 `application/problem+json`。请按 `code` 编程；文字随 `Accept-Language` 为中文（默认）或英文。\
任何应答都带 `X-Request-Id`。全部代码见下方模式 `Code` 与 `FieldCode`。

RFC 9457 `application/problem+json`. Program against `code`; the texts are Chinese (default) or English by \
`Accept-Language`. Every answer carries `X-Request-Id`. All codes: schemas `Code` and `FieldCode` below.
"""

KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "gg_<id>_<secret>",
    "description": (
        "密钥由运维用 `gridgov keys add` 生成。角色：`sender` 上报，查看自己的回执；`reader` 只读，不能上报。"
        "密钥可限定：部件或事件、类别、来源网段、每秒份数、有效期。超出频率得到 429；"
        "每个应答的 `RateLimit` 说明余额；一批按份数计，欠下的由后来的请求等候。"
        "未配置任何密钥时，本机（loopback）请求无需密钥，即发送方与读取方 `local`。\n\n"
        "Keys are made by the operators with `gridgov keys add`. Roles: `sender` posts reports and sees its own "
        "receipts; `reader` reads and posts nothing. A key may be for certain kinds, categories and networks, for so "
        "many reports a second, and end by itself. Too many are answered with 429; `RateLimit` in each answer tells "
        "what is left. A batch counts as its reports, and what it owes the next requests wait for. While no key is "
        "configured, requests from this machine (loopback) "
        "need none: they are the sender and reader `local`."
    ),
}
SIGNATURE = {
    "type": "apiKey",
    "in": "header",
    "name": "X-App-Key",
    "description": (
        "签名请求（AppKey 方式），密钥由 `gridgov keys add --signs sha256|sm3` 生成，形如 `gg_<id>_<secret>`，"
        "secret 不在网络上传输。"
        "请求头：`X-App-Key` = `gg_<id>`；`X-Timestamp` = 秒或毫秒时间戳，与本机时钟相差不超过 300 秒；"
        "`X-Content-Digest` = 请求体原始字节的摘要（十六进制；无请求体可省略）；"
        "`X-Signature` = HMAC(secret, 待签文本)（十六进制）。待签文本为五行，以换行（LF）相连、末尾无换行："
        "方法；路径（不含查询串）；查询串的各对按字节排序后以 `&` 相连（没有则为空行）；请求体摘要；时间戳。"
        "摘要与 HMAC 同用密钥所定的算法：SHA-256 或 SM3。重放无害：同一 `report_id` 即为重复。"
        "示例与 Python、Java、shell 客户端见 deploy/signing。\n\n"
        "Signed requests (the AppKey form). The key, made by `gridgov keys add --signs sha256|sm3`, is "
        "`gg_<id>_<secret>`; the secret never travels. Headers: `X-App-Key` = `gg_<id>`; `X-Timestamp` = epoch seconds "
        "or milliseconds, within 300 seconds of our clock; `X-Content-Digest` = the digest of the raw bytes of the "
        "body, in hex (may be left out where there is no body); `X-Signature` = HMAC(secret, text) in hex. The text is "
        "five lines joined by LF, none at the end: method; path without the query; the query's pairs, sorted by "
        "bytes, joined by `&` (an empty line if there are none); the digest of the body; the timestamp. Digest and "
        "HMAC are of the key's algorithm: SHA-256 or SM3. A replay is harmless: the same `report_id` is a duplicate. A "
        "worked example, and clients in Python, Java and shell: deploy/signing."
    ),
}
HEADERS = {
    "X-Request-Id": ("本次请求的编号", "the id of this request"),
    "Location": ("回执的地址", "where its receipt is"),
    "Retry-After": ("多少秒后重发", "seconds to wait before sending again"),
    "RateLimit": (
        "发送方还可上报几份（r），多少秒后恢复全额（t）；未用密钥时没有",
        "how many reports its sender may still send (r), and in how many seconds again all (t); without a key there is "
        "none",
    ),
    "RateLimit-Policy": ("窗口内（w，秒）的配额（q）", "how many (q) in how many seconds (w)"),
    "Content-Language": ("文字的语言：zh 或 en", "the language of the texts: zh or en"),
    "WWW-Authenticate": ("所需的凭据：Bearer", "what is asked for: Bearer"),
    "Allow": ("该路径支持的方法", "the methods this path knows"),
}
PARAMETERS: dict[str, tuple[str, Json, str]] = {  # name here → header, its shape, what it is
    "AcceptLanguage": (
        "Accept-Language",
        {"type": "string", "examples": ["zh", "en"]},
        "文字的语言：zh（默认）或 en / the language of the texts: zh (default) or en",
    ),
    "RequestId": (
        "X-Request-Id",
        {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "自定的请求编号；省略则由本系统生成 / your own id of this request; made by us when absent",
    ),
    "TraceParent": (
        "traceparent",
        {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        "W3C 链路追踪，随消息进入 Kafka / W3C trace context; travels on into Kafka",
    ),
}


def document(report: Json) -> Json:
    """The whole document; `report` is the published JSON Schema of a report."""
    spec = APISpec(
        title="gridgov",
        version=VERSION,
        openapi_version="3.1.0",
        info={
            "summary": "网格案件上报 / Repair and incident reports of a city district",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        servers=[{"url": "/", "description": "本机 / this host"}],
        tags=[
            {"name": "reports", "description": "上报与回执 / Reports and receipts"},
            {"name": "cases", "description": "案件与时限 / Cases and their promised times"},
            {"name": "catalogue", "description": "目录 / The district's table"},
            {"name": "health", "description": "探针与指标 / Probes and metrics"},
            {"name": "docs", "description": "本文档 / This documentation"},
        ],
    )
    components(spec, report)
    for path, operations in described().items():
        spec.path(path=path, operations=operations)
    made: Json = spec.to_dict()
    return made


def components(spec: APISpec, report: Json) -> None:
    """What the paths refer to."""
    spec.components.security_scheme("key", KEY)
    spec.components.security_scheme("signature", SIGNATURE)
    # `$id` would make the schema a document of its own, in which `#/components` means nothing
    spec.components.schema("Report", {name: part for name, part in report.items() if name not in ("$schema", "$id")})
    for name, shape in answers.schemas().items():
        spec.components.schema(name, shape)
    for name, (zh, en) in HEADERS.items():
        spec.components.header(name, {"description": f"{zh} / {en}", "schema": {"type": "string"}})
    for name, (header, shape, about) in PARAMETERS.items():
        spec.components.parameter(name, "header", {"name": header, "schema": shape, "description": about})
    spec.components.response("Other", OTHER)
