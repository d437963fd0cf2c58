"""The two tables of the sink, each column declared once: its type, and what it says. Times are UTC."""

from collections.abc import Iterator
from typing import NamedTuple

TEXT, TIME, NUMBER, REAL, TRUTH, BLOB = "TEXT", "{time}", "{big}", "{real}", "{truth}", "{blob}"


class Column(NamedTuple):
    """One column; `type` is looked up in `Database.TYPES` where the databases differ."""

    name: str
    type: str
    zh: str
    en: str


REPORTS = tuple(
    Column(*told)
    for told in (
        ("sender", TEXT, "发送方", "who sent it"),
        ("report_id", TEXT, "上报编号；与发送方一起唯一", "its id; unique together with the sender"),
        ("case_id", TEXT, "任务号", "the case it is about"),
        ("kind", TEXT, "repair 部件、incident 事件", "repair or incident"),
        ("major", TEXT, "大类代码", "code of the major class"),
        ("major_zh", TEXT, "大类", "the major class, in Chinese"),
        ("major_en", TEXT, "大类（英文）", "the major class, in English"),
        ("category", TEXT, "小类代码", "code of the category"),
        ("category_zh", TEXT, "小类；目录中没有时为空", "the category, in Chinese; empty if the catalogue has none"),
        ("category_en", TEXT, "小类（英文）", "the category, in English"),
        ("stage", TEXT, "环节", "what has happened to the case"),
        ("supervision", TEXT, "督办等级", "how closely the case is supervised"),
        ("occurred_at", TIME, "该环节发生的时间", "when that stage happened"),
        ("received_at", TIME, "gridgov 收到的时间", "when gridgov received it"),
        ("address", TEXT, "地址", "where"),
        ("street_code", TEXT, "街道代码，9 或 12 位", "code of the street, 9 or 12 digits"),
        ("grid_code", TEXT, "单元网格代码", "code of the grid cell"),
        ("component_id", TEXT, "部件编码", "id of the component"),
        ("x", REAL, "横坐标，见 crs", "coordinate, see crs"),
        ("y", REAL, "纵坐标，见 crs", "coordinate, see crs"),
        ("crs", TEXT, "坐标系", "its reference system"),
        ("source", TEXT, "来源", "who noticed it"),
        ("source_name", TEXT, "来源名称", "that source as the platform calls it"),
        ("campaign", TEXT, "专项名称", "name of the campaign"),
        ("campaign_phase", TEXT, "trial 试运行、formal 正式", "trial or formal"),
        ("campaign_level", TEXT, "专项等级", "level of the campaign"),
        ("unit_code", TEXT, "处置单位代码", "code of the unit that handles it"),
        ("unit_name", TEXT, "处置单位", "the unit that handles it"),
        ("description", TEXT, "描述", "description"),
        ("attachments", NUMBER, "附件数", "how many attachments"),
        ("flags", TEXT, "报文异常，逗号分隔", "what is odd about the report, with commas"),
        ("catalogue_edition", TEXT, "目录版本", "edition of the catalogue"),
        ("journal_id", TEXT, "日志库编号", "the journal it came through"),
        ("journal_seq", NUMBER, "日志序号", "its place there"),
        ("kafka_topic", TEXT, "主题", "where it was read"),
        ("kafka_partition", NUMBER, "分区", "where it was read"),
        ("kafka_offset", NUMBER, "偏移", "where it was read"),
    )
)

CASES = tuple(
    Column(*told)
    for told in (
        ("case_id", TEXT, "任务号，主键", "the case; primary key"),
        ("kind", TEXT, "repair 部件、incident 事件", "repair or incident"),
        ("major", TEXT, "大类代码", "code of the major class"),
        ("major_zh", TEXT, "大类", "the major class, in Chinese"),
        ("major_en", TEXT, "大类（英文）", "the major class, in English"),
        ("category", TEXT, "小类代码", "code of the category"),
        ("category_zh", TEXT, "小类；目录中没有时为空", "the category, in Chinese; empty if the catalogue has none"),
        ("category_en", TEXT, "小类（英文）", "the category, in English"),
        (
            "phase",
            TEXT,
            "awaiting_arrival 待到场、in_progress 处置中、awaiting_approval 待通过、"
            "suspended 挂账、approved 已通过、cancelled 作废",
            "where it stands: awaiting_arrival, in_progress, awaiting_approval, suspended, approved, cancelled",
        ),
        ("is_open", TRUTH, "是否在办", "neither approved nor cancelled"),
        ("supervision", TEXT, "督办等级，取最高", "how closely it is supervised, the highest stated"),
        ("campaign", TEXT, "专项名称", "name of the campaign"),
        ("campaign_phase", TEXT, "trial 试运行、formal 正式", "trial or formal"),
        ("campaign_level", TEXT, "专项等级", "level of the campaign"),
        ("address", TEXT, "地址", "where"),
        ("street_code", TEXT, "街道代码", "code of the street"),
        ("grid_code", TEXT, "单元网格代码", "code of the grid cell"),
        ("x", REAL, "横坐标，见 crs", "coordinate, see crs"),
        ("y", REAL, "纵坐标，见 crs", "coordinate, see crs"),
        ("crs", TEXT, "坐标系", "its reference system"),
        ("reported_at", TIME, "上报时间", "when it was reported"),
        ("arrived_at", TIME, "到场时间", "when staff were on site"),
        ("finished_at", TIME, "处置完毕时间（返工后重算）", "when it was finished; a return to rework voids that"),
        ("approved_at", TIME, "上报通过时间（返工后重算）", "when it was approved; a return to rework voids that"),
        ("cancelled_at", TIME, "作废时间", "when it was cancelled"),
        ("clock_started_at", TIME, "计时起点", "when the clocks of its standards started"),
        ("arrival_limit", NUMBER, "到场时限，秒；无承诺为空", "seconds promised for the arrival; empty: no promise"),
        ("arrival_deadline", TIME, "到场截止", "the arrival's deadline"),
        ("arrival_seconds", REAL, "到场用时，秒", "what the arrival took, seconds"),
        ("arrival_outcome", TEXT, "到场结果：met 达标、breached 超时、空未定", "met, breached; empty: undecided"),
        (
            "arrival_due_at",
            TIME,
            "仍在等到场的截止；早于现在即超时",
            "the deadline while the arrival is waited for: overdue when it is past",
        ),
        (
            "completion_limit",
            NUMBER,
            "完成时限，秒；无承诺为空",
            "seconds promised for the completion; empty: no promise",
        ),
        ("completion_deadline", TIME, "完成截止", "the completion's deadline"),
        ("completion_seconds", REAL, "完成用时，秒", "what the completion took, seconds"),
        ("completion_outcome", TEXT, "完成结果：met 达标、breached 超时、空未定", "met, breached; empty: undecided"),
        (
            "completion_due_at",
            TIME,
            "仍在等完成的截止；早于现在即超时",
            "the deadline while the finish is waited for: overdue when it is past",
        ),
        ("reopenings", NUMBER, "返工次数", "how often rework was ordered"),
        ("reports", NUMBER, "报文数", "how many reports tell of it"),
        ("flags", TEXT, "案件异常，逗号分隔", "what is odd about the case, with commas"),
        ("last_received_at", TIME, "最后一条报文收到的时间", "when gridgov received its last report"),
        ("next_due_ms", NUMBER, "内部：下次判定时间", "internal: when it is to be judged next (Unix ms)"),
        ("as_of_ms", NUMBER, "内部：判定截至", "internal: the moment up to which it is judged (Unix ms)"),
        ("state", BLOB, "内部：案件状态", "internal: the facts of the case"),
    )
)
_PLACE = ("address", "street_code", "grid_code", "x", "y", "crs")

INDEXES = (
    "CREATE INDEX reports_by_case ON reports(case_id, occurred_at)",
    "CREATE INDEX reports_by_receipt ON reports(received_at)",
    "CREATE INDEX cases_by_report ON cases(reported_at)",
    "CREATE INDEX cases_by_phase ON cases(phase, kind)",
    "CREATE INDEX cases_by_category ON cases(kind, category, reported_at)",
    "CREATE INDEX cases_by_street ON cases(street_code, reported_at)",
    "CREATE INDEX cases_to_judge ON cases(next_due_ms) WHERE next_due_ms IS NOT NULL",
)


def definitions() -> Iterator[str]:
    """The statements that make it all, in the SQL of `Database.sql`."""
    yield _table("reports", REPORTS, "PRIMARY KEY(sender, report_id)")
    yield _table("cases", CASES, "PRIMARY KEY(case_id)")
    yield "CREATE TABLE gridgov_sink(key TEXT PRIMARY KEY, value TEXT NOT NULL)"
    yield from INDEXES


def comments() -> Iterator[str]:
    """What each column says, for databases that keep it and tools that show it."""
    for table, columns in (("reports", REPORTS), ("cases", CASES)):
        for one in columns:
            said = f"{one.zh} · {one.en}".replace("'", "''")
            yield f"COMMENT ON COLUMN {table}.{one.name} IS '{said}'"


ADD_CASE = "INSERT INTO cases(case_id) VALUES(?) ON CONFLICT DO NOTHING"
# The place of a case is what its first report that names one has told.
SAVE_CASE = (
    "UPDATE cases SET "
    + ", ".join(f"{one.name}={f'COALESCE({one.name}, ?)' if one.name in _PLACE else '?'}" for one in CASES[1:])
    + " WHERE case_id=?"
)


def _table(name: str, columns: tuple[Column, ...], key: str) -> str:
    lines = ", ".join(f"{one.name} {one.type}" for one in columns)
    return f"CREATE TABLE {name}({lines}, {key})"


def page(language: str) -> str:
    """Both tables as Markdown."""
    heads = {"zh": ("列", "类型", "含义"), "en": ("column", "type", "what it says")}
    lines = []
    for table, columns in (("reports", REPORTS), ("cases", CASES)):
        lines += [f"**`{table}`**", "", "| {} | {} | {} |".format(*heads[language]), "|---|---|---|"]
        for one in columns:
            kind = {TEXT: "text", TIME: "time", NUMBER: "integer", REAL: "real", TRUTH: "boolean", BLOB: "bytes"}
            lines.append(f"| `{one.name}` | {kind[one.type]} | {getattr(one, language)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"
