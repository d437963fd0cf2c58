"""What the commands share: how they get their configuration, and how they end when it, or anything else, is wrong."""

import logging
import logging.config
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from service import config as configuration
from service import logs
from service.config import Config, ConfigError


def fail(text: str, code: int = 1) -> NoReturn:
    """End the command with what went wrong, in red."""
    click.secho(text, fg="red", err=True)
    sys.exit(code)


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the `Config`; wrong options end it with all problems listed (exit code 2)."""
    return given_config(command, lambda _: None)


def given_config(command: Callable[..., None], check: Callable[[Config], None]) -> Callable[..., None]:
    """As `configured`, with more to be looked at: `check` raises `ConfigError` with all that is wrong."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        config, problems = configuration.read(os.environ)
        try:
            check(config)
            if not problems:
                logging.config.dictConfig(logs.settings(config.log_level))
                command(config, *args, **kwargs)
        except ConfigError as error:
            problems = problems + error.problems
        if problems:
            fail("configuration:\n" + "\n".join(f"  - {problem}" for problem in problems), 2)

    return wrapped
