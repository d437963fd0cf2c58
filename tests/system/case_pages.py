"""All cases of a running gridgov, page by page."""

from __future__ import annotations

from typing import Any

from tests.gridgov import Gridgov
from tests.sunk import as_shown


def every_case(gridgov: Gridgov) -> tuple[dict[str, Any], str]:
    """Every case by its id, as `tests.sunk.cases` has it, and as of when."""
    found: dict[str, Any] = {}
    path: str | None = "/v1/cases?limit=1000"
    while path:
        status, body = gridgov.get(path)
        assert status == 200
        found |= {one["case_id"]: as_shown(one) for one in body["cases"]}
        path = body["next"] and f"/v1/cases?limit=1000&cursor={body['next']}"
    return found, body["as_of"]
