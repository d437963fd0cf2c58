"""The report as a sender writes it, and as we keep it.

Shape only: whether a category exists is the domain's question.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, ClassVar

import msgspec
import orjson
from marshmallow import ValidationError
from msgspec import UNSET

from schemas import personal, wire
from schemas.fields import (
    Closed,
    Code,
    Flaw,
    FreeObject,
    HttpsUrl,
    Items,
    Json,
    Moment,
    Number,
    OneOf,
    Part,
    Reference,
    Text,
)
from schemas.given import Given
from schemas.personal import FREE_TEXT, STRICT, Policy
from schemas.plain import Doubt, Plain, spell
from schemas.reasons import Reason
from schemas.times import format_time
from schemas.words import Crs, Kind, Media, Phase, Source, Stage, Supervision, Usage

IDENTIFIER = "[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"
GEOGRAPHIC = (Crs.CGCS2000, Crs.WGS84, Crs.GCJ02, Crs.BD09)
AHEAD_SECONDS = 300  # how far a sender's clock may be ahead of ours
MOST_PROBLEMS = 100  # a body of nonsense must not be answered with one many times its size

_LONGITUDE, _LATITUDE, _METRES = 180, 90, 10_000_000
_WEST, _EAST, _SOUTH, _NORTH = 73, 136, 3, 54  # how far China reaches
_TOGETHER = {"x": ("y", "crs"), "y": ("x", "crs"), "crs": ("x", "y")}
_NAMEABLE = re.compile(r"(?!.*[0-9]{5})[^\W\d][\w.-]{0,63}")  # a key that looks like a name, not like content


def says(zh: str, en: str) -> dict[str, str]:
    """What the published schema says of a field."""
    return {"description": f"{zh} / {en}"}


def _within(x: int, y: int) -> Json:
    return {"properties": {"x": {"minimum": -x, "maximum": x}, "y": {"minimum": -y, "maximum": y}}}


class LocationSchema(Closed):
    """Where: as an address, in the district's grid, at a component, at a point."""

    rules: ClassVar[Json] = {
        "oneOf": [  # all of a point, or nothing
            {
                "required": list(_TOGETHER),
                "properties": {"x": {"type": "number"}, "y": {"type": "number"}, "crs": {"enum": list(Crs)}},
            },
            {"properties": {"x": {"type": "null"}, "y": {"type": "null"}, "crs": {"enum": ["", None]}}},
        ],
        "if": {"properties": {"crs": {"enum": list(GEOGRAPHIC)}}, "required": ["crs"]},
        "then": _within(_LONGITUDE, _LATITUDE),
        "else": _within(_METRES, _METRES),
    }
    address = Text(200, least=1, required=True, metadata=says("地址", "address"))
    street_code = Code("[0-9]{9}|[0-9]{12}", metadata=says("街道代码，9 或 12 位", "street, 9 or 12 digits"))
    grid_code = Code("[0-9]{14,15}", metadata=says("单元网格代码，14 或 15 位", "grid cell, 14 or 15 digits"))
    component_id = Code(
        IDENTIFIER,
        metadata=says("部件编码；16 位数字时第 7–10 位即四位类别", "if 16 digits, 7-10 are a 4-digit category"),
    )
    x = Number(metadata=says("横坐标：经度或米", "longitude, or metres"))
    y = Number(metadata=says("纵坐标：纬度或米", "latitude, or metres"))
    crs = OneOf(Crs, metadata=says("坐标系，原样传递，不换算", "reference system; carried, never converted"))


class CampaignSchema(Closed):
    """The operation a case belongs to, e.g. 第三届进博会, formal, 一级."""

    name = Text(100, least=1, required=True, metadata=says("专项行动名称", "name of the operation"))
    phase = OneOf(Phase, metadata=says("阶段：试运行、正式", "trial or formal run"))
    level = Text(32, metadata=says("保障等级", "level of assurance"))


class AttachmentSchema(Closed):
    """A picture or recording, by address only."""

    url = HttpsUrl(required=True, metadata=says("https 地址，本系统从不下载", "https address; never fetched"))
    usage = OneOf(Usage, metadata=says("用途：上报、处置、核查", "the find, the work or the check"))
    media = OneOf(Media, metadata=says("媒体类型", "kind of media"))


class HandlerSchema(Closed):
    """The unit that deals with the case."""

    unit_code = Reference(64, metadata=says("处置单位代码", "code of the unit"))
    unit_name = Text(100, metadata=says("处置单位名称", "name of the unit"))


class ReporterSchema(Closed):
    """Personal data: looked at here, then dropped."""

    name = Text(100, metadata=says("上报人姓名", "name"))
    phone = Text(32, metadata=says("上报人电话", "telephone number"))


class ReportSchema(Closed):
    """One message of the platform about a case.

    An optional field that is null was not given; nor was a code, a word of a list or a reference that is "", nor an
    object in which nothing is given.
    """

    rules: ClassVar[Json] = {
        "if": {"properties": {"stage": {"const": Stage.REPORTED}}, "required": ["stage"]},
        "then": {
            "required": ["location"],
            "properties": {
                "location": {
                    "type": "object",
                    "required": ["address"],
                    "properties": {"address": {"type": "string", "minLength": 1}},
                }
            },
        },
    }
    report_id = Code(
        IDENTIFIER, required=True, metadata=says("上报编号；同一发送方内的幂等键", "idempotency key within the sender")
    )
    case_id = Code(IDENTIFIER, required=True, metadata=says("任务号，全区唯一", "the case, district-wide"))
    kind = OneOf(Kind, required=True, metadata=says("部件或事件", "repair or incident"))
    category = Code(
        "[0-9]{4,5}",
        required=True,
        metadata=says("大类 2 位 + 小类 2 或 3 位", "2 digits of major and 2 or 3 of minor class"),
    )
    stage = OneOf(Stage, required=True, metadata=says("案件发生了什么", "what has happened to the case"))
    occurred_at = Moment(
        required=True,
        metadata=says(
            "该环节发生的时间：带时区的 RFC 3339（时区也可写作 +0800、+08），不带时区的为北京时间，或毫秒时间戳；"
            "不得超前 5 分钟以上",
            "when that stage happened: RFC 3339 (the offset also as +0800 or +08), without an offset in Asia/Shanghai, "
            "or epoch milliseconds; at most 5 minutes ahead",
        ),
    )
    location = Part(LocationSchema, metadata=says("位置；上报时必填", "where; required when stage is reported"))
    source = OneOf(Source, metadata=says("来源", "who noticed it"))
    source_name = Text(64, metadata=says("平台所称的来源", "the source as the platform calls it"))
    supervision = OneOf(
        Supervision,
        load_default=Supervision.NONE.value,
        metadata=says("督办等级；urgent 为紧逼督办", "how closely the case is supervised"),
    )
    campaign = Part(CampaignSchema, metadata=says("专项行动", "the operation the case belongs to"))
    description = Text(2000, metadata=says("描述", "description"))
    attachments = Items(Part(AttachmentSchema), most=20, metadata=says("附件", "attachments"))
    handler = Part(HandlerSchema, metadata=says("处置单位", "the unit that deals with the case"))
    reporter = Part(
        ReporterSchema,
        metadata=says("上报人；个人信息，入库前即删除", "personal data, dropped before anything is stored"),
    )
    extra = FreeObject(
        most=4096,
        levels=4,
        metadata=says("附加对象，原样传递；至多 4096 字节、4 层", "passed through; at most 4096 bytes and 4 levels"),
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: an RFC 6901 pointer, '' for the whole report. Holds nothing the sender wrote but
    names of fields, and none of those from inside `reporter` or `extra`."""

    pointer: str
    reason: Reason
    params: Mapping[str, object] = field(default_factory=dict)


class Invalid(Exception):
    """A report that can be read but not taken: a 422."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems


ADDED = ("catalogue_edition", "category_name", "flags", "major_name", "received_at", "reporter_given")  # by us, to it
SCHEMA = ReportSchema()
PLAIN = Plain(SCHEMA, ADDED)
GIVEN = Given(SCHEMA)


class Report(msgspec.Struct, frozen=True, gc=False):
    """A report of the right shape."""

    report_id: str
    case_id: str
    kind: Kind
    category: str
    stage: Stage
    occurred_at_ms: int  # epoch milliseconds, UTC
    content: Any  # the whole of it, of `PLAIN.type`; read it only
    compared: bytes  # what its fingerprint is of: all free text masked, whatever the policy keeps
    masked: bool = False  # whether `content` lacks personal data that stood in its free text

    def __repr__(self) -> str:
        """Ids only: what was written stays out of logs."""
        return f"Report({self.report_id!r}, {self.case_id!r}, {self.stage!r})"

    @property
    def major(self) -> str:
        """The first two digits of the category."""
        return self.category[:2]

    @property
    def supervision(self) -> Supervision:
        """How closely the case is supervised."""
        return Supervision(self.content.supervision)

    @property
    def campaign(self) -> Mapping[str, str] | None:
        """The operation the case belongs to."""
        campaign: Mapping[str, str] = msgspec.to_builtins(self.content.campaign or {})
        return campaign or None

    @property
    def canonical(self) -> dict[str, Any]:
        """The whole of it, as JSON that is `wire.normal`."""
        known: dict[str, Any] = orjson.loads(spell(self.content))
        return known

    def fingerprint(self) -> bytes:
        """16 bytes that two reports share when their content is the same, however keys, numbers and times are spelt."""
        return blake2b(self.compared, digest_size=16).digest()


def digest(compared: Mapping[str, Any]) -> bytes:
    """The fingerprint of a canonical report whose personal data are masked."""
    return blake2b(wire.encode(compared), digest_size=16).digest()


def parse(body: bytes) -> Any:
    """As `wire.parse`; but what may be a plain report, by itself or in an array of none but such, is of `PLAIN.type`.

    Raises `wire.Unreadable`.
    """
    try:
        return PLAIN.read(body)
    except Doubt:
        return wire.parse(body)


def as_sent(item: object) -> Any:
    """As `wire.parse` would have given it."""
    return orjson.loads(spell(item)) if isinstance(item, PLAIN.type) else item


def load(data: object, *, now_ms: int, policy: Policy = STRICT) -> Report:
    """The report in what was parsed, without the personal data that the policy does not keep.

    Raises Invalid with every problem of it at once, by pointer.
    """
    content = _taken(data, now_ms)
    if content is None:
        given = GIVEN(as_sent(data))
        content = _taken(given, now_ms) or _judged(given, now_ms)
    return _report(content, policy)


def _taken(data: object, now_ms: int) -> Any:
    """The content of what is right beyond doubt; else None."""
    try:
        content = PLAIN(data)
    except Doubt:
        return None
    return content if _fits(content, now_ms) else None


def _judged(given: Any, now_ms: int) -> Any:
    """The content by marshmallow's word. Raises Invalid."""
    problems: list[Problem] = []
    try:
        valid = SCHEMA.load(given)
    except ValidationError as error:
        valid = error.valid_data  # always the dict of what was right
        problems += _problems(error.messages)
    problems += _across_fields(valid, given, now_ms)
    if problems:
        problems.sort(key=lambda problem: problem.pointer)
        if len(problems) > MOST_PROBLEMS:
            problems[MOST_PROBLEMS:] = [Problem("", Reason.TOO_MANY_PROBLEMS, {"limit": MOST_PROBLEMS})]
        raise Invalid(tuple(problems))
    return PLAIN.loaded(valid)


def geographic_xy(report: Report) -> tuple[float, float] | None:
    """Longitude and latitude in degrees, in whichever geographic system they were given; None if in none."""
    location = report.content.location
    return (location.x, location.y) if location and location.crs in GEOGRAPHIC else None


_KINDS = {word.value: word for word in Kind}
_STAGES = {word.value: word for word in Stage}


def _report(content: Any, policy: Policy) -> Report:
    """Of content that is nobody else's."""
    occurred_at_ms: int = content.occurred_at
    content.occurred_at = format_time(occurred_at_ms)
    reporter, content.reporter = content.reporter, UNSET
    compared, masked = content, False
    if personal.suspected(content):
        said = orjson.loads(spell(content))
        hidden = personal.masked(said)
        shown = hidden if policy.masks_all else personal.masked(said, policy)
        content, compared = PLAIN.loaded(shown), PLAIN.loaded(hidden)
        masked = any(shown.get(name) != said.get(name) for name in FREE_TEXT)
    if reporter:
        content.reporter_given = compared.reporter_given = True
    spelt = spell(compared)
    if reporter and (kept := policy.reporter(msgspec.to_builtins(reporter))):
        content.reporter = kept
    return Report(
        report_id=content.report_id,
        case_id=content.case_id,
        kind=_KINDS[content.kind],
        category=content.category,
        stage=_STAGES[content.stage],
        occurred_at_ms=occurred_at_ms,
        content=content,
        compared=spelt,
        masked=masked,
    )


def _problems(messages: Any, pointer: str = "") -> Iterator[Problem]:
    """marshmallow's tree of messages, whose leaves are lists of Flaws or of bare reasons, as a flat list."""
    for key, below in messages.items():
        if isinstance(below, dict):
            yield from _problems(below, f"{pointer}/{key}")
            continue
        for said in below:
            flaw = said if isinstance(said, Flaw) else Flaw(Reason(said))
            if flaw.reason is Reason.UNKNOWN_FIELD:
                yield Problem(_unknown(key, pointer), *flaw)
            elif key == "_schema":  # marshmallow's word for the object itself
                yield Problem(pointer, flaw.reason, {"expected": "object"})
            else:
                yield Problem(f"{pointer}/{key}", *flaw)


def _unknown(key: object, pointer: str) -> str:
    """The pointer of an unknown field, or of the object it is in if the key itself should not be repeated."""
    nameable = isinstance(key, str) and _NAMEABLE.fullmatch(key) and pointer != "/reporter"
    return f"{pointer}/{key}" if nameable else pointer


def _across_fields(valid: Mapping[str, Any], data: object, now_ms: int) -> Iterator[Problem]:
    """The rules that look at more than one field, at the clock or at both; `valid` holds only what is right so far."""
    given = data if isinstance(data, dict) else {}
    if valid.get("stage") == Stage.REPORTED and "location" not in given:
        yield Problem("/location", Reason.LOCATION_REQUIRED)
    if valid.get("occurred_at", 0) > now_ms + AHEAD_SECONDS * 1000:
        yield Problem("/occurred_at", Reason.FUTURE_TIME, {"limit_seconds": AHEAD_SECONDS})
    location = valid.get("location", {})
    if "component_id" in location and _contradicts(location["component_id"], valid.get("category", "")):
        yield Problem("/location/component_id", Reason.COMPONENT_CONTRADICTS_CATEGORY)
    point = given.get("location")
    if isinstance(point, dict) and 0 < sum(map(point.__contains__, _TOGETHER)) < len(_TOGETHER):
        yield from _incomplete_point(point)
    if "crs" in location:
        yield from _impossible_point(location)


def _fits(content: Any, now_ms: int) -> bool:
    """Whether it keeps to the rules of `_across_fields` beyond doubt, as nearly every report does."""
    if content.occurred_at > now_ms + AHEAD_SECONDS * 1000:
        return False
    location = content.location
    if not location:
        return bool(content.stage != Stage.REPORTED)
    if location.component_id and _contradicts(location.component_id, content.category):
        return False
    x, y, crs = location.x, location.y, location.crs
    if x is UNSET or y is UNSET or crs is UNSET:
        return x is y is crs
    if crs in GEOGRAPHIC:
        return bool(_WEST <= x <= _EAST and _SOUTH <= y <= _NORTH)
    return bool(abs(x) <= _METRES and abs(y) <= _METRES)


def _contradicts(component_id: str, category: str) -> bool:
    """Whether a 16-digit component (6 area, 2 major, 2 minor, 6 serial) is of another category than a 4-digit one."""
    return (
        len(component_id) == 16 and component_id.isdecimal() and len(category) == 4 and component_id[6:10] != category
    )


def _incomplete_point(given: Mapping[str, Any]) -> Iterator[Problem]:
    missing = {other for name, others in _TOGETHER.items() if name in given for other in others} - given.keys()
    for name in sorted(missing):
        reason = Reason.CRS_REQUIRED if name == "crs" else Reason.COORDINATES_REQUIRED
        yield Problem(f"/location/{name}", reason)


def _impossible_point(location: Mapping[str, Any]) -> Iterator[Problem]:
    x, y, geographic = location.get("x", 0), location.get("y", 0), location["crs"] in GEOGRAPHIC
    if geographic and _WEST <= y <= _EAST and _SOUTH <= x <= _NORTH:
        yield Problem("/location", Reason.SWAPPED_AXES)
        return
    if abs(x) <= _LATITUDE and abs(y) <= _LATITUDE:  # within either bounds
        return
    bounds = (_LONGITUDE, _LATITUDE) if geographic else (_METRES, _METRES)
    for name, value, most in zip("xy", (x, y), bounds, strict=True):
        if abs(value) > most:
            yield Problem(f"/location/{name}", Reason.OUT_OF_RANGE, {"least": -most, "most": most})
