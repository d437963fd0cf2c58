"""One JSON object per line on standard error: constant words as message, values as fields; no bodies, no people."""

import re
from typing import Any

from pythonjsonlogger.orjson import OrjsonFormatter

_OBEYED = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Line(OrjsonFormatter):
    """JSON leaves these as they are: some terminals take them for commands, some readers for the end of a line."""

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", super().jsonify_log_record(log_data))


def settings(level: str) -> dict[str, Any]:
    """What `logging.config.dictConfig` and granian take."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": Line,
                "fmt": ["asctime", "levelname", "name", "message"],
                "rename_fields": {"asctime": "at", "levelname": "level", "name": "logger"},
                "datefmt": "%Y-%m-%dT%H:%M:%S%z",
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            "_granian": {"level": level},
            "kafka": {
                "level": "DEBUG" if level == "DEBUG" else "CRITICAL"
            },  # a line per try otherwise; we tell what matters
            "werkzeug": {"level": "WARNING"},
        },
    }
