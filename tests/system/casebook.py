"""What the tests of cases ask a running gridgov: its metrics summed, and whether they agree with its figures."""

from __future__ import annotations

import re
from typing import Any

import orjson

from tests.gridgov import Gridgov, until

NOWHERE = "127.0.0.1:1"  # no Kafka is there: cases go on without it
Row = dict[str, Any]
_SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})?")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def total(gridgov: Gridgov, name: str, **wanted: str) -> float:
    """The sum of a metric of the relay's port over all its label sets that fit."""
    found = []
    for sample, value in gridgov.metrics(gridgov.relay_metrics).items():
        match = _SAMPLE.fullmatch(sample)
        assert match, sample
        if match["name"] == name and wanted.items() <= dict(_LABEL.findall(match["labels"] or "")).items():
            found.append(value)
    assert found, f"no sample of {name} with {wanted}"
    return sum(found)


def decided(gridgov: Gridgov, standard: str, outcome: str, **wanted: str) -> float:
    """Cases with this outcome now: counted, and what corrections have added and taken."""
    other = {"met": "breached", "breached": "met"}[outcome]
    labels = {"standard": standard, **wanted}
    return (
        total(gridgov, "gridgov_case_standard_total", outcome=outcome, **labels)
        + total(gridgov, "gridgov_case_standard_corrections_total", to=outcome, **labels)
        - total(gridgov, "gridgov_case_standard_corrections_total", to=other, **labels)
    )


def corrections(gridgov: Gridgov) -> float:
    """All corrections there ever were."""
    return total(gridgov, "gridgov_case_standard_corrections_total")


def figures(gridgov: Gridgov, *options: str) -> dict[tuple[str, str], Row]:
    """`gridgov standards`, by campaign phase and kind; fails when not everything accepted is in it."""
    done = gridgov.run("standards", "--format", "json", *options, check=True)
    told = orjson.loads(done.stdout)
    assert told["complete"], done.stderr
    return {(row["campaign_phase"], row["kind"]): row for row in told["figures"]}


def metrics_agree(gridgov: Gridgov) -> None:
    """To the unit, kind by kind: the metrics of the relay's port and `gridgov standards`."""
    rows = figures(gridgov)
    for kind in ("repair", "incident"):
        of_kind = [row for (_, named), row in rows.items() if named == kind]
        exact = {name: sum(row[name] for row in of_kind) for name in COUNTS}
        assert exact == {
            "reported": total(gridgov, "gridgov_cases_reported_total", kind=kind),
            "approved": total(gridgov, "gridgov_cases_approved_total", kind=kind),
            "arrival_met": decided(gridgov, "arrival", "met", kind=kind) if kind == "repair" else 0,
            "arrival_breached": decided(gridgov, "arrival", "breached", kind=kind) if kind == "repair" else 0,
            "completion_met": decided(gridgov, "completion", "met", kind=kind),
            "completion_breached": decided(gridgov, "completion", "breached", kind=kind),
        }


COUNTS = ("reported", "approved", "arrival_met", "arrival_breached", "completion_met", "completion_breached")


def case(gridgov: Gridgov, case_id: str, **headers: str) -> Row:
    """The body of a case that must be there."""
    status, body = gridgov.get(f"/v1/cases/{case_id}", **headers)
    assert status == 200, body
    found: Row = body
    return found


def standard(shown: Row, name: str) -> Row:
    """One standard of a case's body."""
    (found,) = (one for one in shown["standards"] if one["standard"] == name)
    return dict(found)


def last_sweep(gridgov: Gridgov) -> float:
    """When deadlines were last swept (Unix seconds); 0: the relay does not tell of cases yet."""
    return gridgov.metrics(gridgov.relay_metrics).get("gridgov_case_tracker_last_run_timestamp_seconds", 0.0)


def past_sweeps(gridgov: Gridgov, count: int) -> None:
    """Wait until deadlines were swept so often from now on."""
    at = _sweep_after(gridgov, 0.0)
    for _ in range(count):
        at = _sweep_after(gridgov, at)


def _sweep_after(gridgov: Gridgov, moment: float) -> float:
    found: float = until(lambda: (now := last_sweep(gridgov)) > moment and now, "deadlines are swept")
    return found
