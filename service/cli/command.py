"""What the commands share: how they get their configuration, how they end when it, or anything else, is wrong, and how
the audit log is told of them."""

import logging
import logging.config
import os
import pwd
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from service import config as configuration
from service import logs
from service.audit.trail import AuditError, Event, Result, Trail, What
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


# ---- the audit log ----

_NOTED = "gridgov.noted"
_PLAIN = (int, str, list, tuple, dict)


def audited(what: What) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Have a command tell the audit log that it is begun, before it does anything, and what came of it.

    It goes below `configured`. What was given on the command line is told, and whatever the command notes with `note`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def wrapped(config: Config, **given: Any) -> None:
            trail = trail_of(config)
            about = {"command": click.get_current_context().command_path}
            about |= {name: value for name, value in given.items() if value not in (None, (), False)}
            _write(trail, what, Result.BEGUN, about)
            outcome = Result.FAILED
            try:
                command(config, **given)
                outcome = Result.DONE
            finally:
                _write(trail, what, outcome, about | click.get_current_context().meta.get(_NOTED, {}))

        return wrapped

    return decorate


def note(**about: Any) -> None:
    """What the line about a command's outcome is to tell: ids and numbers."""
    click.get_current_context().meta.setdefault(_NOTED, {}).update(about)


def trail_of(config: Config) -> Trail:
    """The audit log that is configured."""
    return Trail(config.audit, keep_days=config.audit_days)


def _write(trail: Trail, what: What, result: Result, about: dict[str, Any]) -> None:
    try:
        trail.write(Event(int(time.time() * 1000), _who(), _origin(), what, result, _plain(about)))
    except AuditError as error:
        undone = "nothing was done" if result is Result.BEGUN else f"the command is {result}"
        fail(f"the audit log cannot be written, {undone}: {error}")


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value if isinstance(value, _PLAIN) else str(value) for name, value in about.items()}


def _who() -> str:
    """The account, and through `sudo` whose it is."""
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's number without a name
        account = str(os.getuid())
    behind = os.environ.get("SUDO_USER")
    return f"{behind} as {account}" if behind else account


def _origin() -> str:
    """Where the terminal is."""
    return os.environ.get("SSH_CLIENT", "").partition(" ")[0] or "local"
