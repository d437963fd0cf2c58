"""The shapes of what the API answers, as JSON Schema. New members may come: a client ignores those it does not know."""

from schemas.fields import Json
from schemas.openapi import cases
from schemas.openapi.shapes import COUNT, FLAG, ID, TEXT, TIME, Field, array, named, one_of, or_null, record, ref
from schemas.reasons import Reason, message
from schemas.words import Kind, Stage, Standard

STATES = ("pending", "settled", "parked")
PARK_REASONS = ("record_too_large", "record_refused")
RESERVED = (  # codes that no answer gives yet
    Reason.SHUTTING_DOWN,
)


def schemas() -> dict[str, Json]:
    """Every answer's schema by its name in the document."""
    return {
        "Receipt": _receipt(),
        "BatchAnswer": _batch_answer(),
        "BatchResult": _batch_result(),
        "Problem": _problem(),
        "FieldProblem": _field_problem(),
        "Code": _codes(
            "整个应答或批次中一项的代码；↻ 可原样重发",
            "of a whole answer or a batch item; ↻ send the same again",
            of_a_field=False,
        ),
        "FieldCode": _codes("上报中一个字段的问题代码", "of a problem with one field", of_a_field=True),
        **cases.schemas(),
        "Catalogue": _catalogue(),
        "Liveness": record(
            "进程是否存活。 / Whether the process is alive.",
            {"status": (one_of("live", "dead"), "是否存活", "whether it is alive")},
        ),
        "Readiness": _readiness(),
    }


def _receipt() -> Json:
    fields: dict[str, Field] = {
        "report_id": (ID, "上报编号", "the report"),
        "case_id": (ID, "任务号", "the case"),
        "topic": (TEXT, "Kafka 主题", "the Kafka topic"),
        "received_at": (TIME, "首次收到的时间", "when we first received it"),
        "duplicate": (FLAG, "本次应答是否重复先前的回执", "whether this answer repeats an earlier one"),
        "state": (
            one_of(*STATES),
            "pending 待发布；settled Kafka 已确认；parked Kafka 无法接收，等待人工处理",
            "pending: not yet acknowledged by Kafka; settled: acknowledged; parked: Kafka will never take it as it is",
        ),
        "partition": (COUNT, "分区（settled）", "partition, when settled"),
        "offset": (
            COUNT,
            "位移（settled）：Kafka 收下时的位置；过了保留期，或主题被删除重建之后，该处已没有这条消息",
            "offset, when settled: where Kafka took it; past the retention, or once the topic was deleted and made"
            " anew, it is there no more",
        ),
        "settled_at": (TIME, "Kafka 确认的时间（settled）", "when Kafka acknowledged it, when settled"),
        "reason": (one_of(*PARK_REASONS), "原因（parked）", "why, when parked"),
    }
    about = "一份已收下的上报的回执。 / The receipt of one accepted report."
    where = ("partition", "offset", "settled_at")
    together = {name: [other for other in where if other != name] for name in where}
    return record(about, fields, optional=(*where, "reason")) | {"dependentRequired": together}


def _batch_answer() -> Json:
    return record(
        "一批上报的结果，逐项对应。 / The outcome of a batch, item by item.",
        {
            "accepted": (COUNT, "新收下的份数", "newly accepted"),
            "duplicates": (COUNT, "先前已收下的份数", "accepted before"),
            "failed": (COUNT, "未收下的份数", "not accepted"),
            "results": (array(ref("BatchResult")), "按请求中的次序", "in the order of the request"),
        },
    )


def _batch_result() -> Json:
    return record(
        "批次中一项的结果。 / The outcome of one item of a batch.",
        {
            "index": (
                COUNT,
                "请求中的序号，从 0 起；NDJSON 空行不计",
                "its place, from 0; blank NDJSON lines not counted",
            ),
            "report_id": (or_null(ID), "上报编号；无法辨认时为 null", "null when it could not be made out"),
            "status": ({"type": "integer"}, "若单独发送会得到的状态码", "the status it would have had on its own"),
            "duplicate": (FLAG, "先前已收下", "accepted before"),
            "code": (or_null(ref("Code")), "未收下的原因；收下时为 null", "why not; null when accepted"),
            "errors": (array(ref("FieldProblem")), "逐个问题", "problem by problem"),
            "retryable": (FLAG, "稍后原样重发是否可能成功", "whether the same may pass later"),
        },
    )


def _problem() -> Json:
    return record(
        "RFC 9457 问题文档；请按 code 编程，不要按文字。 / RFC 9457; program against `code`, never against the texts.",
        {
            "type": (TEXT | {"format": "uri"}, "urn:gridgov:problem:<code>", "urn:gridgov:problem:<code>"),
            "title": (TEXT, "说明，语言按 Accept-Language", "in the language of Accept-Language"),
            "status": ({"type": "integer", "minimum": 400, "maximum": 599}, "HTTP 状态码", "the HTTP status"),
            "code": (ref("Code"), "稳定的代码", "a stable code"),
            "request_id": (TEXT, "与 X-Request-Id 相同；报障时请提供", "as X-Request-Id; quote it when you ask us"),
            "retryable": (FLAG, "稍后原样重发是否可能成功", "whether the same may pass later"),
            "errors": (array(ref("FieldProblem")), "逐个问题，可为空", "problem by problem, may be empty"),
        },
    )


def _field_problem() -> Json:
    return record(
        "一处问题；绝不复述发送的内容。 / One problem; never repeats what was sent.",
        {
            "pointer": (TEXT, "RFC 6901 指针；空串为整份上报", "RFC 6901; empty for the report as a whole"),
            "code": ({"anyOf": [ref("FieldCode"), ref("Code")]}, "稳定的代码", "a stable code"),
            "message": (TEXT, "说明，语言按 Accept-Language", "in the language of Accept-Language"),
        },
    )


def _codes(zh: str, en: str, *, of_a_field: bool) -> Json:
    listed = [reason for reason in Reason if (reason.status is None) is of_a_field]
    table = [f"{zh} / {en}", "", "| code | HTTP | 中文 | English |", "|---|---|---|---|", *map(_row, listed)]
    return one_of(*(reason.value for reason in listed)) | {"description": "\n".join(table)}


def _row(reason: Reason) -> str:
    status = f"{reason.status or 422}{' ↻' if reason.retryable else ''}"
    later = "（保留 reserved）" if reason in RESERVED else ""
    return f"| `{reason}`{later} | {status} | {message(reason, 'zh')} | {message(reason, 'en')} |"


def _catalogue() -> Json:
    kind = named(
        "部件或事件。 / Repair or incident.",
        {
            "kind": (one_of(*Kind), "部件或事件", "repair or incident"),
            "majors": (array(_major()), "大类", "the major classes"),
            "categories": (
                array(_category()),
                "小类；大类 21 与小类 99 另可用自定代码",
                "beside them: major 21, minor 99",
            ),
            "standards": (array(_standard()), "时限标准", "the promised times"),
        },
    )
    stage = named("一个环节。 / A stage.", {"stage": (one_of(*Stage), "环节", "what has happened to the case")})
    street = named("一个街道。 / A street.", {"street_code": (TEXT, "12 位代码", "12 digits")})
    return record(
        "本区的目录；代码只在所属版本内有意义。 / The district's table; a code means something only in its edition.",
        {
            "edition": (TEXT, "版本，随每条消息发布", "the edition; it travels in every message"),
            "title": (TEXT, "版本全称", "what the edition is called"),
            "district": (
                named("区。 / The district.", {"code": (TEXT, "6 位代码", "6 digits")}),
                "区",
                "the district",
            ),
            "kinds": (array(kind), "部件与事件", "repair and incident"),
            "stages": (array(stage), "环节", "the stages"),
            "streets": (array(street), "街道", "the streets"),
        },
    )


def _major() -> Json:
    code = {"type": "string", "pattern": "^[0-9]{2}$"}
    return named(
        "一个大类。 / A major class.",
        {
            "major": (code, "2 位代码", "2 digits"),
            "topic": (TEXT, "其上报所在的 Kafka 主题", "the topic of its reports"),
        },
    )


def _category() -> Json:
    code = {"type": "string", "pattern": "^[0-9]{4,5}$"}
    return named("一个小类。 / A category.", {"code": (code, "大类 + 小类", "major and minor")})


def _standard() -> Json:
    return named(
        "一项时限标准。 / A promised time.",
        {
            "standard": (one_of(*Standard), "到场或完成", "arrival or completion"),
            "limit_seconds": ({"type": "integer", "minimum": 1}, "时限（秒）", "seconds"),
            "category": (or_null(TEXT), "只用于该小类；null 为全部", "for this category only; null: for all"),
        },
    )


def _readiness() -> Json:
    words = one_of("ready", "degraded", "unready")
    return record(
        "进程能否工作。 / Whether the process can do its work.",
        {
            "status": (
                words,
                "degraded：可以收报，但周边有异常",
                "degraded: it accepts, and something around it is wrong",
            ),
            "reasons": (
                array(TEXT),
                "原因，如 journal_full、relay_silent、kafka_unreachable、backlog_old、messages_parked、"
                "keys_not_reloaded、audit_unwritten、web_process_silent、topic_missing:<主题>",
                "such as journal_full, relay_silent, kafka_unreachable, backlog_old, messages_parked, "
                "keys_not_reloaded, audit_unwritten, web_process_silent, topic_missing:<topic>",
            ),
        },
    )
