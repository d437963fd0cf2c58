"""The PromQL of the dashboards: raw metrics only, so that they stand without the recording rules.

Case metrics are told by the relay's leader alone and live in its casebook, so one number goes on from one leader to the
next: `max by` over the processes, also *inside* a count over time. Everything else is each process's own: `sum`.
Windows are fixed (15 m, 1 h): at one report a minute a rate over a few scrapes is confetti.
"""

from collections.abc import Callable
from typing import NamedTuple

from deploy.grafana.model import Text

CASE_LABELS = {
    "gridgov_cases_open": "kind, major, phase",
    "gridgov_cases_open_supervised": "kind, supervision",
    "gridgov_cases_overdue": "kind, major, standard",
    "gridgov_cases_due_soon": "kind, major, standard",
    "gridgov_cases_reported_total": "kind, major",
    "gridgov_cases_approved_total": "kind, major",
    "gridgov_case_reopenings_total": "kind, major",
    "gridgov_case_standard_total": "kind, major, standard, outcome",
    "gridgov_case_standard_corrections_total": "kind, major, standard, to",
    "gridgov_case_standard_limit_seconds": "kind, standard",
    "gridgov_case_arrival_seconds_bucket": "kind, major, le",
    "gridgov_case_completion_seconds_bucket": "kind, major, le",
    "gridgov_case_oldest_open_timestamp_seconds": "kind",
    "gridgov_case_flags_total": "flag",
}
HTTP = "gridgov_http_request_duration_seconds"
REPORTS_IN = {"method": "POST", "route": "/v1/reports|/v1/reports/batch"}


def selected(metric: str, **labels: str) -> str:
    """The metric with its matchers; a value with `|` or `..` in it is a pattern. `to_`: the label `to`."""
    pairs = ((name.rstrip("_"), value) for name, value in labels.items())
    matchers = [f'{name}{"=~" if "|" in value or ".." in value else "="}"{value}"' for name, value in pairs]
    return metric + ("{" + ",".join(matchers) + "}" if matchers else "")


# ---- events: each process's own ----


def per_hour(metric: str, by: str, **labels: str) -> str:
    """How many in the last hour, by some labels."""
    return f"sum by ({by}) (increase({selected(metric, **labels)}[1h]))"


def newly_per_hour(metric: str, by: str, **labels: str) -> str:
    """As `per_hour`, of series that are there from their first event on: one unknown the hour before began at 0."""
    series = selected(metric, **labels)
    new = f"{series} unless count_over_time({series}[1h] offset 1h)"
    return f"sum by ({by}) (({new}) or increase({series}[1h]))"


def quantile(q: float, histogram: str, *, by: str = "", window: str = "15m", **labels: str) -> str:
    """A quantile of what was observed in the window; nothing while nothing was (NaN would spoil the axis)."""
    grouped = f"le, {by}" if by else "le"
    buckets = f"sum by ({grouped}) (rate({selected(f'{histogram}_bucket', **labels)}[{window}]))"
    return f"histogram_quantile({q}, {buckets}) >= 0"


# ---- cases: the leader's ----


def cases(metric: str, **labels: str) -> str:
    """The metric as the leader tells it, one series per set of labels."""
    return f"max by ({CASE_LABELS[metric]}) ({selected(metric, **labels)})"


def counted(metric: str, window: str, by: str = "", **labels: str) -> str:
    """By how much a case counter grew in the window: now, less the least it was.

    Exact, unlike `increase`, and across changes of the leader, whose instance label is another. The totals never fall
    but when a casebook begins anew: then, what was counted since.
    """
    had = f"min by ({CASE_LABELS[metric]}) (min_over_time({selected(metric, **labels)}[{window}]))"
    grown = f"{cases(metric, **labels)} - {had}"
    return f"{f'sum by ({by})' if by else 'sum'} ({grown})"


def outcomes(outcome: str, window: str, by: str = "", **labels: str) -> str:
    """Cases that came out so, as is known now: counted so, corrected to it, less what was corrected away from it."""
    other = {"met": "breached", "breached": "met"}[outcome]
    first = counted("gridgov_case_standard_total", window, by, outcome=outcome, **labels)
    gained = counted("gridgov_case_standard_corrections_total", window, by, to_=outcome, **labels)
    lost = counted("gridgov_case_standard_corrections_total", window, by, to_=other, **labels)
    return f"clamp_min({first} + {gained} - {lost}, 0)"  # a correction may undo what was counted before the window


def met_ratio(window: str, by: str = "", **labels: str) -> str:
    """Met ÷ decided; nothing while none is decided."""
    decided = counted("gridgov_case_standard_total", window, by, **labels)
    return f"clamp_max({outcomes('met', window, by, **labels)} / ({decided} > 0), 1)"


def case_quantile(q: float, standard: str, window: str, **labels: str) -> str:
    """A quantile of how long cases took; nothing while none was measured."""
    observed = counted(f"gridgov_case_{standard}_seconds_bucket", window, "le", **labels)
    return f"histogram_quantile({q}, {observed}) >= 0"


def placed(expr: str) -> str:
    """With `place`, "kind major", made of the two labels: what a name can be mapped to."""
    return f'label_join({expr}, "place", " ", "kind", "major")'


# ---- service level objectives ----

SLO_WINDOW = "28d"


class Slo(NamedTuple):
    """One objective; `ratio(window)` is the part of the window's events that were good, nothing if there were none."""

    name: Text
    about: Text
    target: float
    ratio: Callable[[str], str]

    def burn(self, window: str) -> str:
        """How many times faster than allowed the budget is used; 1 lasts exactly 28 days."""
        return f"(1 - ({self.ratio(window)})) / {1 - self.target:.6g}"

    def budget(self) -> str:
        """The part of the 28 days' budget that is left; negative when it is overdrawn."""
        return f"1 - {self.burn(SLO_WINDOW)}"


def _answered(window: str) -> str:
    """A status has no series before its first answer, so failures are counted from the 0 of their process."""
    failed = f"sum by (job, instance) ({selected('gridgov_http_requests_total', **REPORTS_IN, status='5..')})"
    asked = selected(f"{HTTP}_count", **REPORTS_IN)
    from_zero = f"{failed} or 0 * sum by (job, instance) ({asked})"
    step = "5m" if window == SLO_WINDOW else "1m"
    return f"1 - sum(increase(({from_zero})[{window}:{step}])) / (sum(increase({asked}[{window}])) > 0)"


def _within(histogram: str, le: str, **labels: str) -> Callable[[str], str]:
    def ratio(window: str) -> str:
        good = selected(f"{histogram}_bucket", **labels, le=le)
        every = selected(f"{histogram}_count", **labels)
        return f"sum(increase({good}[{window}])) / (sum(increase({every}[{window}])) > 0)"

    return ratio


def _met(kind: str, standard: str) -> Callable[[str], str]:
    return lambda window: met_ratio(window, kind=kind, standard=standard)


SLOS = (
    Slo(
        Text("受理可用率", "Intake answers"),
        Text("POST 请求中未以 5xx 应答的比例", "POST requests not answered with 5xx"),
        0.999,
        _answered,
    ),
    Slo(
        Text("0.5 秒内受理", "Intake in 0.5 s"),
        Text("在 0.5 秒内应答的 POST 请求比例", "POST requests answered within 0.5 s"),
        0.99,
        _within(HTTP, "0.5", **REPORTS_IN),
    ),
    Slo(
        Text("60 秒内发布", "Published in 60 s"),
        Text(
            "受理后 60 秒内被 Kafka 确认的上报比例；中断期间看不到，要看“最早待发布”",
            "reports that Kafka acknowledged within 60 s of acceptance; blind to an outage while it lasts:"
            " see the age of the oldest pending",
        ),
        0.999,
        _within("gridgov_ingest_lag_seconds", "60.0"),
    ),
    Slo(
        Text("事件处置达标", "Incidents in time"),
        Text("在时限内到场并处置完毕的事件比例", "incidents finished within their limit"),
        0.95,
        _met("incident", "completion"),
    ),
    Slo(
        Text("维修到场达标", "Arrivals in time"),
        Text("在时限内到场的维修比例", "repairs with staff on site within their limit"),
        0.95,
        _met("repair", "arrival"),
    ),
    Slo(
        Text("维修整改达标", "Repairs in time"),
        Text("在时限内整改完毕的维修比例", "repairs rectified within their limit"),
        0.98,
        _met("repair", "completion"),
    ),
)
