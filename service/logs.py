"""One JSON object per line on standard error: constant words as message, values as fields; no bodies, no people."""

from typing import Any

from pythonjsonlogger.orjson import OrjsonFormatter


def settings(level: str) -> dict[str, Any]:
    """What `logging.config.dictConfig` and granian take."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": OrjsonFormatter,
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
