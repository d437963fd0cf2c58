"""值班大屏 / Duty wall: which cases run out of time now, and how often the promised times are kept.

28 units high: in kiosk mode it fills one 1080p screen.
"""

from deploy.grafana.model import (
    HOURS,
    MINUTES,
    NEUTRAL,
    Json,
    Look,
    Panel,
    Query,
    Step,
    Text,
    alarming,
    choice,
    dashboard,
    promised,
)
from deploy.grafana.names import ALERTS, PHASES, SEVERITIES, limit, places
from deploy.grafana.panels import Column, gauge, hourly, lines, ranking, stacked, stat, table
from deploy.grafana.queries import (
    SLOS,
    case_quantile,
    cases,
    counted,
    met_ratio,
    outcomes,
    per_hour,
    placed,
)
from schemas.catalogue import Catalogue

WINDOW = "${window}"
WINDOWS = {"24h": Text("24 小时", "24 hours"), "7d": Text("7 天", "7 days"), "28d": Text("28 天", "28 days")}
NO_CASES = Text("无案件", "no cases")
PROMISES = (("incident", "completion"), ("repair", "arrival"), ("repair", "completion"))
TARGETS = dict(zip(PROMISES, (slo.target for slo in SLOS[3:]), strict=True))
COUNT = Look("none", decimals=0)
WORRYING = Look("none", alarming(orange=1), decimals=0)
ALARMING = Look("none", alarming(red=1), decimals=0)


def duty_wall(catalogue: Catalogue) -> Json:
    """The dashboard."""
    return dashboard(
        "gridgov-wall",
        Text("值班大屏", "Duty wall"),
        Text(
            "未结案件、即将超时与已超时、达标率。统计窗口可选；投屏请用 kiosk 模式。",
            "Open cases, due soon and overdue, how often the promises are kept. Use kiosk mode on a wall.",
        ),
        [*_now(catalogue), *_rates(catalogue), *_times(), *_load(catalogue), *_lists(catalogue)],
        templating={"list": [choice("window", Text("统计窗口", "Window"), WINDOWS)]},
    )


# ---- row 1: now ----


def _now(catalogue: Catalogue) -> list[Panel]:
    late = {promise: limit(catalogue, *promise) for promise in PROMISES}
    incident, arrival, repair = late.values()
    return [
        stat(
            Text("未结", "Open cases"),
            Text("已上报、尚未核实通过也未作废的案件", "Reported, neither approved nor cancelled yet"),
            f"sum({cases('gridgov_cases_open')})",
            COUNT,
        ),
        stat(
            Text("紧逼督办件", "Urgent cases"),
            Text("未结案件中督办级别为紧逼督办的", "Open cases under urgent supervision"),
            f"sum({cases('gridgov_cases_open_supervised', supervision='urgent')})",
            WORRYING,
        ),
        stat(
            Text("待到场", "Awaiting arrival"),
            Text("未结案件中现场尚无人员到场的", "Open cases that nobody is known to be on site for"),
            f"sum({cases('gridgov_cases_open', phase='awaiting_arrival')})",
            COUNT,
        ),
        stat(
            Text("即将超时", "Due soon"),
            Text(
                "5 分钟内到期的时限数（以小时计的时限为 2 小时内）；一个案件可有两个时限",
                "Promises that run out within 5 minutes (2 hours for promises of hours); a case may have two",
            ),
            f"sum({cases('gridgov_cases_due_soon')})",
            WORRYING,
        ),
        _overdue(
            Text(f"事件超{_short(incident.zh)}", f"Incident > {incident.en}"),
            Text("已超过时限、尚未处置完毕的事件", "Incidents past their limit and not finished"),
            *PROMISES[0],
        ),
        _overdue(
            Text(f"未到场超{_short(arrival.zh)}", f"Arrival > {arrival.en}"),
            Text("已超过到场时限、尚无人员到场的部件案件", "Repairs past their limit with nobody on site"),
            *PROMISES[1],
        ),
        _overdue(
            Text(f"维修超{_short(repair.zh)}", f"Repair > {repair.en}"),
            Text("已超过整改时限、尚未处置完毕的部件案件", "Repairs past their limit and not finished"),
            *PROMISES[2],
        ),
        stat(
            Text("完成率", "Completion rate"),
            Text(
                "窗口内核实通过数 ÷ 窗口内上报数；清理积压时会超过 100%。某次行动的准确数字用 gridgov cases 查询",
                "Approved in the window ÷ reported in it: above 100 % while a backlog is cleared. "
                "Exact figures of a campaign come from the command line",
            ),
            f"{counted('gridgov_cases_approved_total', WINDOW)}"
            f" / ({counted('gridgov_cases_reported_total', WINDOW)} > 0)",
            Look("percentunit", promised(0.95, orange_from=0.8), decimals=1, nothing=NO_CASES),
        ),
    ]


def _overdue(title: Text, about: Text, kind: str, standard: str) -> Panel:
    return stat(title, about, f"sum({cases('gridgov_cases_overdue', kind=kind, standard=standard)})", ALARMING)


def _short(limit_zh: str) -> str:
    return limit_zh.replace(" ", "").replace("分钟", "分").replace("小时", "时")


# ---- row 2: how often the promises were kept ----


def _rates(catalogue: Catalogue) -> list[Panel]:
    words = (Text("事件", "Incidents"), Text("到场", "Arrivals"), Text("整改", "Repairs"))
    panels = []
    for name, promise in zip(words, PROMISES, strict=True):
        promised_time = limit(catalogue, *promise)
        panels += _rate(name, promised_time, *promise)
    return panels


def _rate(name: Text, time: Text, kind: str, standard: str) -> list[Panel]:
    target = TARGETS[kind, standard]
    return [
        gauge(
            Text(f"{name.zh} {time.zh}达标率", f"{name.en} in {time.en}"),
            Text(
                f"窗口内判定的案件中按时完成的比例，含事后更正；目标 {target:.0%}",
                f"Kept ÷ decided in the window, later corrections included; target {target:.0%}",
            ),
            met_ratio(WINDOW, kind=kind, standard=standard),
            Look("percentunit", promised(target, orange_from=target - 0.05), 1, 0, 1, nothing=NO_CASES),
            width=5,
            height=5,
        ),
        stat(
            Text(f"{name.zh}未达标", f"{name.en} missed"),
            Text("窗口内判定为超时的案件数，含事后更正", "Decided as missed in the window, later corrections included"),
            outcomes("breached", WINDOW, kind=kind, standard=standard),
            WORRYING,
            height=5,
        ),
    ]


# ---- row 3: how long it takes ----


def _times() -> list[Panel]:
    about = Text(
        "最近{}内的中位数与九成案件的用时；虚线为时限",
        "Median, and the time nine in ten keep to, over the last {}; dashed: the limit",
    )
    titles = (
        Text("事件处置用时", "Time to finish an incident"),
        Text("维修到场用时", "Time to arrive at a repair"),
        Text("维修整改用时", "Time to finish a repair"),
    )
    spans = (("1h", Text("1 小时", "hour")), ("1h", Text("1 小时", "hour")), ("6h", Text("6 小时", "6 hours")))
    return [
        _time(title, Text(about.zh.format(span.zh), about.en.format(span.en)), window, kind, standard)
        for title, (window, span), (kind, standard) in zip(titles, spans, PROMISES, strict=True)
    ]


def _time(title: Text, about: Text, window: str, kind: str, standard: str) -> Panel:
    line = Text("时限", "limit")
    unit, seconds = (HOURS, 3600) if (kind, standard) == PROMISES[2] else (MINUTES, 60)
    limit_expr = f"max({cases('gridgov_case_standard_limit_seconds', kind=kind, standard=standard)})"
    queries = [
        Query(f"({case_quantile(0.5, standard, window, kind=kind)}) / {seconds}", "p50"),
        Query(f"({case_quantile(0.9, standard, window, kind=kind)}) / {seconds}", "p90"),
        Query(f"{limit_expr} / {seconds}", line),
    ]
    return lines(title, about, queries, Look(unit, decimals=0, least=0), width=8, height=6, limit=line)


# ---- row 4: what comes in, where it stands, what is missed ----


def _load(catalogue: Catalogue) -> list[Panel]:
    names = places(catalogue)
    missed = placed(f"topk(6, {outcomes('breached', WINDOW, 'kind, major')} > 0)")
    return [
        hourly(
            Text("每小时上报数（按大类）", "Reports per hour by category"),
            Text("新受理的上报，重复的不计", "Newly accepted reports, repeats left out"),
            Query(per_hour("gridgov_reports_total", "kind, major", result="accepted") + " > 0", "{{kind}} {{major}}"),
            Look("none", NEUTRAL, 0, names=names),
            width=10,
            height=7,
        ),
        stacked(
            Text("未结案件（按阶段）", "Open cases by phase"),
            Text("挂起的案件按其处置进度计入", "Suspended cases are counted by how far the work has come"),
            Query(f"sum by (phase) ({cases('gridgov_cases_open')})", "{{phase}}"),
            Look("none", NEUTRAL, 0, names=PHASES),
            width=8,
            height=7,
        ),
        ranking(
            Text("未达标最多的大类", "Most missed categories"),
            Text("窗口内判定为超时的时限数", "Promises decided as missed in the window"),
            Query(f"sort_desc({missed})", "{{place}}"),
            Look("none", alarming(orange=0, red=5), 0, 0, names=names, nothing=Text("全部达标", "none missed")),
            width=6,
            height=7,
        ),
    ]


# ---- row 5: category by category; alerts ----


def _lists(catalogue: Catalogue) -> list[Panel]:
    return [_categories(catalogue), _alerts()]


def _categories(catalogue: Catalogue) -> Panel:
    overdue = Text("超时", "Overdue")
    columns = [
        Column(Text("大类", "Category"), "place", Look(names=places(catalogue)), is_label=True, width=300),
        Column(Text("未结", "Open"), _by_place(cases("gridgov_cases_open")), COUNT),
        Column(Text("即将超时", "Due soon"), _by_place(cases("gridgov_cases_due_soon")), WORRYING),
        Column(overdue, _by_place(cases("gridgov_cases_overdue")), ALARMING),
        Column(
            Text("上报", "Reported"),
            placed(counted("gridgov_cases_reported_total", WINDOW, "kind, major")),
            COUNT,
        ),
        *(
            Column(
                title,
                placed(met_ratio(WINDOW, "kind, major", standard=standard)),
                Look("percentunit", promised(0.95, orange_from=0.9), 1),
            )
            for title, standard in (
                (Text("到场达标", "Arrival met"), "arrival"),
                (Text("完成达标", "Finish met"), "completion"),
            )
        ),
        Column(
            Text("返工", "Reworked"),
            placed(counted("gridgov_case_reopenings_total", WINDOW, "kind, major")),
            WORRYING,
        ),
    ]
    return table(
        Text("各大类情况", "Category by category"),
        Text(
            "未结、即将超时、超时为当前数，其余为窗口内",
            "Open, due soon and overdue are of now, the rest of the window",
        ),
        columns,
        COUNT,
        hidden=("kind", "major"),
        first=overdue,
        width=16,
        height=6,
    )


def _by_place(expr: str) -> str:
    return placed(f"sum by (kind, major) ({expr})")


def _alerts() -> Panel:
    named = f'alertname=~"{"|".join(ALERTS)}"'
    firing = f'ALERTS_FOR_STATE{{{named}}} and ignoring (alertstate) ALERTS{{alertstate="firing",{named}}}'
    lasting = Text("已持续", "For")
    columns = [
        Column(Text("告警", "Alert"), "alertname", Look(names=ALERTS), is_label=True),
        Column(Text("级别", "Severity"), "severity", Look(names=SEVERITIES), is_label=True),
        Column(
            lasting,
            f"max by (alertname, severity) (time() - ({firing}))",
            Look("dthms", (Step(None, "red"),)),
        ),
    ]
    return table(
        Text("正在告警", "Firing alerts"),
        Text(
            "持续时间从条件首次成立算起；处置办法见运行手册",
            "Counted from when the condition first held; see the runbooks",
        ),
        columns,
        Look(nothing=Text("当前无告警", "nothing is firing")),
        hidden=(),
        first=lasting,
        width=8,
        height=6,
    )
