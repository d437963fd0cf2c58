"""服务健康 / Service health: the objectives and their budgets, requests, refusals, and what the platform sends late."""

from deploy.grafana.model import NEUTRAL, Json, Look, Panel, Query, Step, Text, alarming, dashboard, promised
from deploy.grafana.names import KINDS, PROCESSES
from deploy.grafana.panels import hourly, lines, row, stat
from deploy.grafana.queries import (
    HTTP,
    REPORTS_IN,
    SLO_WINDOW,
    SLOS,
    Slo,
    cases,
    counted,
    newly_per_hour,
    per_hour,
    quantile,
)
from schemas.catalogue import Catalogue

NO_EVENTS = Text("无事件", "no events")
BUDGET = Look("percentunit", (Step(None, "red"), Step(0, "orange"), Step(0.25, "green")), 0, nothing=NO_EVENTS)
BURN = Look("none", (Step(None, "green"), Step(6, "orange"), Step(14.4, "red")), 1, 0, 20)


def service_health(_: Catalogue) -> Json:
    """The dashboard."""
    return dashboard(
        "gridgov-service",
        Text("服务健康", "Service health"),
        Text(
            "服务目标（28 天）、误差预算、请求与拒收、平台延迟。",
            "Objectives (28 days) and their error budgets, requests and refusals, the platform's delay.",
        ),
        [*_objectives(), *_requests(), *_intake(), *_tracking()],
        refresh="1m",
    )


def _objectives() -> list[Panel]:
    return [
        row(Text("服务目标（28 天）", "Objectives (28 days)")),
        *map(_attained, SLOS),
        *map(_left, SLOS),
        lines(
            Text("误差预算消耗速率（1 小时）", "Error budget burn (1 hour)"),
            Text(
                "1 = 恰好 28 天用完；虚线 6 与 14.4 是告警线。一小时内的案件太少，案件目标见右图",
                "1 lasts exactly 28 days; the dashed lines, 6 and 14.4, page. An hour has too few cases: see the right",
            ),
            [Query(slo.burn("1h"), slo.name) for slo in SLOS[:3]],
            BURN,
            marks=True,
        ),
        lines(
            Text("误差预算消耗速率（6 小时）", "Error budget burn (6 hours)"),
            Text(
                "所有目标，窗口 6 小时：慢而持续的消耗",
                "Every objective, over 6 hours: slow and steady burning",
            ),
            [Query(slo.burn("6h"), slo.name) for slo in SLOS],
            BURN,
            marks=True,
        ),
    ]


def _attained(slo: Slo) -> Panel:
    about = Text(
        f"{slo.about.zh}；目标 {slo.target:.1%}，按事件数加权，受 Prometheus 保留期限制",
        f"The part of {slo.about.en}; target {slo.target:.1%}, weighted by events, as far as Prometheus keeps data",
    )
    look = Look("percentunit", promised(slo.target, orange_from=2 * slo.target - 1), 2, nothing=NO_EVENTS)
    return stat(slo.name, about, slo.ratio(SLO_WINDOW), look, width=4)


def _left(slo: Slo) -> Panel:
    title = Text(f"剩余预算：{slo.name.zh}", f"Left: {slo.name.en}")
    about = Text("28 天误差预算的剩余部分；负数为已透支", "What is left of 28 days' error budget; negative: overdrawn")
    return stat(title, about, slo.budget(), BUDGET, width=4, height=3)


def _requests() -> list[Panel]:
    asked = f'{HTTP}_count{{route!~"/metrics|/livez|/readyz"}}'
    return [
        row(Text("请求", "Requests")),
        hourly(
            Text("每小时请求数（按路由）", "Requests per hour by route"),
            Text("探针与抓取不在其中", "Probes and scrapes left out"),
            Query(f"sum by (route) (increase({asked}[1h])) > 0", "{{route}}"),
            Look("none", NEUTRAL, 0),
            width=8,
        ),
        hourly(
            Text("每小时出错应答（按状态码）", "Error answers per hour by status"),
            Text("4xx 是发送方的问题，5xx 是我们的", "4xx are the sender's, 5xx are ours"),
            Query(f"{newly_per_hour('gridgov_http_requests_total', 'status', status='[45]..')} > 0", "{{status}}"),
            Look("none", NEUTRAL, 0, nothing=Text("没有出错", "no errors")),
            width=8,
        ),
        lines(
            Text("应答用时（POST 上报）", "Answer time (POST reports)"),
            Text(
                "本进程所见，15 分钟窗口；目标：99% 在 0.5 秒内",
                "As the process sees it, over 15 minutes; 99 % are to take at most 0.5 s",
            ),
            [Query(quantile(q, HTTP, **REPORTS_IN), f"p{q * 100:.0f}") for q in (0.5, 0.9, 0.99)],
            Look("s", alarming(red=0.5), least=0),
            width=8,
            marks=True,
        ),
        stat(
            Text("运行中的进程", "Processes"),
            Text("应答了上次抓取的进程，按种类", "Processes that answered the last scrape, by what they do"),
            Query("count by (process) (gridgov_build_info)", "{{process}}"),
            Look("none", (Step(None, "red"), Step(1, "green")), 0, names=PROCESSES),
            width=8,
        ),
        stat(
            Text("处理中的请求", "Requests in progress"),
            Text(
                "正在应答的请求；持续接近线程数说明处理不过来",
                "Being answered now; near the number of threads for long: too much",
            ),
            "sum(gridgov_http_requests_in_progress)",
            Look("none", alarming(orange=12, red=16), 0),
            width=8,
        ),
        stat(
            Text("近 15 分钟可用率", "Intake, last 15 min"),
            Text("POST 上报未以 5xx 应答的比例", "The part of POST requests not answered with 5xx"),
            SLOS[0].ratio("15m"),
            Look("percentunit", promised(0.999, orange_from=0.99), 2, nothing=NO_EVENTS),
            width=8,
        ),
    ]


def _intake() -> list[Panel]:
    return [
        row(Text("受理", "Intake")),
        hourly(
            Text("每小时上报（按结果）", "Reports per hour by result"),
            Text("accepted 为新受理，duplicate 为重复发送", "accepted: new; duplicate: sent again under the same id"),
            Query(per_hour("gridgov_reports_total", "result"), "{{result}}"),
            Look(
                "none",
                NEUTRAL,
                0,
                names={"accepted": Text("新受理", "accepted"), "duplicate": Text("重复", "duplicate")},
            ),
            width=8,
        ),
        hourly(
            Text("每小时拒收（按原因）", "Refusals per hour by reason"),
            Text(
                "与应答中的 code、日志中的 reason 是同一个词", "The same word as the answer's code and the log's reason"
            ),
            Query(f"topk(10, {per_hour('gridgov_report_rejections_total', 'reason')} > 0)", "{{reason}}"),
            Look("none", NEUTRAL, 0, nothing=Text("没有拒收", "nothing was refused")),
            width=8,
        ),
        hourly(
            Text("每小时可疑上报（按标记）", "Odd reports per hour by flag"),
            Text("已受理但有疑点，例如坐标在辖区之外", "Accepted though odd, such as coordinates outside the district"),
            Query(f"{per_hour('gridgov_report_flags_total', 'flag')} > 0", "{{flag}}"),
            Look("none", NEUTRAL, 0, nothing=Text("没有标记", "nothing was odd")),
            width=8,
        ),
        lines(
            Text("平台延迟（发生到收到）", "Platform delay"),
            Text(
                "从 occurred_at 到我方收到：平台的迟，不是我们的",
                "From occurred_at to our door: the platform's lateness, not ours",
            ),
            [
                Query(
                    quantile(q, "gridgov_report_delay_seconds", by="kind", window="1h"), f"{{{{kind}}}} p{q * 100:.0f}"
                )
                for q in (0.5, 0.9)
            ],
            Look(
                "dthms",
                alarming(orange=900),
                names={
                    f"{kind} p{q}": Text(f"{name.zh} p{q}", f"{name.en} p{q}")
                    for kind, name in KINDS.items()
                    for q in (50, 90)
                },
            ),
            width=24,
            height=7,
            marks=True,
        ),
    ]


def _tracking() -> list[Panel]:
    oldest = cases("gridgov_case_oldest_open_timestamp_seconds")
    return [
        row(Text("案件跟踪", "Case tracking")),
        stat(
            Text("未入账上报", "Reports not folded"),
            Text("已受理、尚未并入案件的上报", "Accepted and not yet folded into their case"),
            "max(gridgov_case_fold_lag_messages)",
            Look("none", alarming(orange=500, red=5000), 0),
            width=6,
        ),
        stat(
            Text("距上次检查时限", "Last deadline sweep"),
            Text(
                "每秒一次；超过一分钟说明跟踪停了", "Once a second; more than a minute means that tracking stands still"
            ),
            "time() - max(gridgov_case_tracker_last_run_timestamp_seconds)",
            Look("dthms", alarming(orange=60, red=300), 0),
            width=6,
        ),
        stat(
            Text("无法入账的上报", "Reports not foldable"),
            Text("并入案件失败而跳过的上报，累计", "Passed over because they could not be folded into a case, in all"),
            "max(gridgov_case_fold_failures_total)",
            Look("none", alarming(red=1), 0),
            width=6,
        ),
        stat(
            Text("最早的未结案件", "Oldest open case"),
            Text(
                "自上报起经过的时间，按种类；0 为没有未结案件", "Time since it was reported, by kind; 0: none is open"
            ),
            Query(f"(time() - {oldest}) * ({oldest} > bool 0)", "{{kind}}"),
            Look("dthms", alarming(orange=86400, red=259200), 0, names=KINDS),
            width=6,
        ),
        hourly(
            Text("每小时可疑案件（按标记）", "Odd cases per hour by flag"),
            Text("例如缺少上报、次序颠倒；每案每种只计一次", "Such as no clock or out of order; each once per case"),
            Query(f"{counted('gridgov_case_flags_total', '1h', 'flag')} > 0", "{{flag}}"),
            Look("none", NEUTRAL, 0, nothing=Text("没有标记", "nothing was odd")),
            width=24,
            height=7,
        ),
    ]
