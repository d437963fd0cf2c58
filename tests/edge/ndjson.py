"""What schemathesis has to be told: how lines of JSON are written."""

from __future__ import annotations

from typing import Any

import orjson
import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx: object, value: Any) -> bytes:
    """A list's items a line each; whatever else as it is."""
    if isinstance(value, str | bytes):
        return value.encode() if isinstance(value, str) else value
    return b"\n".join(orjson.dumps(one, default=str) for one in (value if isinstance(value, list) else [value]))
