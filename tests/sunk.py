"""What a sink's tables say, in the shape of `GET /v1/cases`: by SQL alone, as a BI tool would read them."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Any

import psycopg

CASE = (
    "case_id, kind, category, phase, supervision, campaign, campaign_phase, campaign_level, flags, reopenings,"
    " clock_started_at, arrival_limit, arrival_deadline, arrival_seconds, arrival_outcome, arrival_due_at,"
    " completion_limit, completion_deadline, completion_seconds, completion_outcome, completion_due_at"
)
STAGE = "case_id, stage, occurred_at, received_at, sender, report_id"
TIMES = {"occurred_at", "received_at", "clock_started_at"}
COMPARED = {"case_id", "kind", "category", "phase", "supervision", "campaign", "flags", "reopenings", "stages"}


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds; times as the API writes them."""
    if url.startswith("sqlite:///"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()
    with psycopg.connect(url) as session:
        return [tuple(map(_plain, row)) for row in session.execute(sql)]


def count(url: str, table: str = "reports") -> int:
    """How many different reports there are; none as long as there is no table."""
    try:
        [(found,)] = rows(url, f"SELECT COUNT(DISTINCT report_id) FROM {table}")
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        return 0
    return int(found)


def cases(url: str, as_of: str) -> dict[str, dict[str, Any]]:
    """Every case by its id, without what moves with the clock (the elapsed time of what is not fulfilled)."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for case_id, *said in rows(url, f"SELECT {STAGE} FROM reports ORDER BY occurred_at, received_at, journal_seq"):
        told = dict(zip(("stage", "occurred_at", "received_at", "sender", "report_id"), said, strict=True))
        stages.setdefault(case_id, []).append(told)
    found = {}
    for row in rows(url, f"SELECT {CASE} FROM cases ORDER BY case_id"):
        case_id, kind, category, phase, supervision, *campaign, flags, reopenings, started = row[:11]
        name, campaign_phase, level = campaign
        found[case_id] = {
            "case_id": case_id,
            "kind": kind,
            "category": category,
            "phase": phase,
            "supervision": supervision,
            "campaign": name and {"name": name, "phase": campaign_phase, "level": level},
            "flags": flags.split(",") if flags else [],
            "reopenings": reopenings,
            "stages": stages.get(case_id, []),
            "standards": [
                *_standard("arrival", started, row[11:16], as_of),
                *_standard("completion", started, row[16:], as_of),
            ],
        }
    return found


def as_shown(body: dict[str, Any]) -> dict[str, Any]:
    """A case of the API's, without what moves with the clock."""
    standards = [
        {name: value for name, value in one.items() if name != "elapsed_seconds" or _fulfilled(body, one)}
        for one in body["standards"]
    ]
    stages = [{name: said for name, said in one.items() if name != "foreign"} for one in body["stages"]]  # no column
    return {name: body[name] for name in COMPARED} | {"standards": standards, "stages": stages}


def differences(found: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Case by case and field by field; empty when the tables say what the API says."""
    told = [f"{name}: only {'in the table' if name in found else 'in the API'}" for name in found.keys() ^ ours.keys()]
    for name in found.keys() & ours.keys():
        for field, said in ours[name].items():
            if found[name][field] != said:
                told.append(f"{name}.{field}: {found[name][field]} in the table, {said} in the API")
    return told


def _standard(name: str, started: str | None, row: tuple[Any, ...], as_of: str) -> list[dict[str, Any]]:
    limit, deadline, seconds, outcome, due = row
    if limit is None:
        return []
    told = {
        "standard": name,
        "limit_seconds": limit,
        "started_at": started,
        "deadline": deadline,
        "outcome": outcome,
        "overdue": due is not None and due < as_of,
    }
    return [told | ({"elapsed_seconds": seconds} if seconds is not None else {})]


def _fulfilled(body: dict[str, Any], standard: dict[str, Any]) -> bool:
    """By the stages themselves, not by the table that is compared."""
    stages = [one["stage"] for one in body["stages"] if not one["foreign"]]
    if standard["started_at"] is None:
        return False
    if standard["standard"] == "arrival":
        return "arrived" in stages or "finished" in stages
    after = stages[len(stages) - stages[::-1].index("returned") :] if "returned" in stages else stages
    return "finished" in after


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value
