"""The root of the command line `gridgov`: where its commands are, and `gridgov config`."""

import os
from importlib import import_module

import click

from service import config as configuration
from service.cli.command import configured
from service.config import Config
from service.ports import JournalError
from service.version import VERSION

_ALIKE = (
    *("audit", "cases", "consume", "erase", "journal", "keys", "rejects", "replay", "simulate", "sink", "standards"),
    "topics",
)
# command → its module, whose imports the other commands need not wait for
ELSEWHERE = {
    **dict.fromkeys(("web", "relay", "run"), "serve"),
    **{name: name for name in _ALIKE},
}


class Lazy(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, also those not imported yet."""
        return sorted([*super().list_commands(ctx), *ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(import_module(f"service.cli.{ELSEWHERE[cmd_name]}"), cmd_name)
        return found


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """gridgov takes repair and incident reports over HTTP, keeps them safe, and publishes them to Kafka.

    \b
    Try it:      gridgov run                     (or `make run` in a checkout: with a broker)
    Send:        gridgov replay reports.ndjson, gridgov simulate
    Receive:     gridgov consume --from-beginning, gridgov sink sqlite:///cases.db
    Watch:       gridgov cases --overdue, gridgov standards
    Look after:  gridgov journal status, gridgov topics, gridgov keys list,
                 gridgov audit verify

    Every option is an environment variable; `gridgov config` shows them all.
    """


@main.command("config")
@configured
def show_config(config: Config) -> None:
    """Show every option: its name in the environment, value, default, unit and meaning; and what a 202 means."""
    for option in configuration.options():
        name, default = configuration.env_name(option), option.metadata["default"]
        value = os.environ.get(name, default).strip()
        if value and option.metadata["secret"]:
            value = "(set, not shown)"
        changed = click.style(f"{name}={value}", bold=value != default)
        unit = f" [{option.metadata['unit']}]" if option.metadata["unit"] else ""
        click.echo(f"{changed}\n    {option.metadata['doc']}{unit}; default {default or 'none'}")
    click.echo(f"\na report is accepted (202) once it is {_promise(config)}")


def _promise(config: Config) -> str:
    from service.storage.storage import chosen  # noqa: PLC0415 - the other commands need not wait for it

    try:
        return chosen(config).promise()
    except JournalError as error:
        return f"in PostgreSQL, which cannot say now what that means: {error}"
