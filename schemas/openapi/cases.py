"""The shapes of `GET /v1/cases` and `GET /v1/cases/{case_id}`."""

from schemas.fields import Json
from schemas.openapi.shapes import COUNT, FLAG, ID, TEXT, TIME, array, one_of, or_null, record, ref
from schemas.words import Kind, Phase, Stage, Standard, Supervision

PHASES = ("awaiting_arrival", "in_progress", "awaiting_approval", "suspended", "approved", "cancelled")
OUTCOMES = ("met", "breached")
AS_OF = "此刻之前收到的上报均已计入"


def schemas() -> dict[str, Json]:
    """Their names in the document."""
    return {"Case": _case(), "CaseStage": _stage(), "CaseStandard": _standard(), "CasePage": _page()}


def _case() -> Json:
    return record(
        "一个案件：其全部上报的归纳。 / A case: the fold of all its reports.",
        {
            "case_id": (ID, "任务号", "the case"),
            "owner": (TEXT, "案件归属的发送方：最先上报者", "whose case it is: of the sender that reported it first"),
            "kind": (one_of(*Kind), "部件或事件，以首次上报为准", "repair or incident, as first reported"),
            "category": (TEXT, "类别，以首次上报为准", "the category, as first reported"),
            "phase": (
                one_of(*PHASES),
                "待到场、处置中、待通过、挂账、已通过、已作废",
                "where the case stands",
            ),
            "supervision": (one_of(*Supervision), "报过的最高督办等级", "the highest level stated"),
            "campaign": (or_null(_campaign()), "最近一次报明的专项行动", "the campaign last stated"),
            "flags": (
                array(TEXT),
                "案件的异常，如 no_clock、out_of_order、category_changed、after_cancelled、foreign_sender",
                "what is odd about it, such as no_clock, out_of_order, category_changed, foreign_sender",
            ),
            "reopenings": (COUNT, "返工次数", "how often it was returned for rework"),
            "stages": (array(ref("CaseStage")), "全部上报，按发生次序", "all its reports, in the order they happened"),
            "standards": (array(ref("CaseStandard")), "时限标准", "its promised times"),
            "as_of": (TIME, AS_OF, "up to when reports are folded in"),
        },
    )


def _campaign() -> Json:
    phase = {"enum": [*Phase, None]}
    return record(
        "专项行动。 / A campaign.",
        {
            "name": (TEXT, "名称", "its name"),
            "phase": (phase, "试运行或正式", "trial or formal run"),
            "level": (or_null(TEXT), "保障等级", "level of assurance"),
        },
    )


def _stage() -> Json:
    return record(
        "案件的一份上报。 / One report about the case.",
        {
            "stage": (one_of(*Stage), "环节", "what happened"),
            "occurred_at": (TIME, "发生的时间", "when it happened"),
            "received_at": (TIME, "本系统收到的时间", "when we received it"),
            "sender": (TEXT, "发送方", "who sent it"),
            "report_id": (ID, "上报编号", "the report"),
            "foreign": (
                FLAG,
                "发送方无权就该案件上报：保留、列出，但不计入",
                "its sender may not speak of this case: kept and shown, and nothing comes of it",
            ),
        },
    )


def _standard() -> Json:
    seconds = {"type": "number"}
    return record(
        "一项时限在该案件上的情况。 / One promised time of the case.",
        {
            "standard": (one_of(*Standard), "到场或完成", "arrival or completion"),
            "limit_seconds": ({"type": "integer", "minimum": 1}, "时限（秒）", "seconds promised"),
            "started_at": (or_null(TIME), "开始计时；null 为尚未开始", "when its clock started; null: not yet"),
            "deadline": (or_null(TIME), "最迟时间", "by when"),
            "elapsed_seconds": (or_null(seconds), "已用或实用的秒数", "seconds taken, or so far"),
            "outcome": ({"enum": [*OUTCOMES, None]}, "按时、超时；null 未定", "met, breached, or not yet decided"),
            "overdue": (FLAG, "现在已超时且未达成", "not fulfilled, and its deadline has passed"),
        },
    )


def _page() -> Json:
    return record(
        "一页案件。 / A page of cases.",
        {
            "cases": (array(ref("Case")), "案件，以 case_id 为序", "in the order of their ids"),
            "next": (or_null(ID), "下一页的 cursor；null 为末页", "cursor of the next page; null on the last"),
            "as_of": (TIME, AS_OF, "up to when reports are folded in"),
        },
    )
