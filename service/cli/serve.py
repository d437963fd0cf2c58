"""`gridgov web`, `relay` and `run`: the processes of the service."""

import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from service import app, logs
from service.cli.command import fail, given_config
from service.config import Config
from service.peers import Team
from service.processes import Child, GaveUp, Taken, keep, only_one
from service.relay.pulse import Listener

CONNECTIONS = 1024  # of a process, at the same time; the server counts idle ones too, and answers no newcomer above


def serving(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the `Config`, after what only those who accept or publish need (keys, catalogue, disk)."""

    def check(config: Config) -> None:
        app.checked(config)

    return given_config(command, check)


@click.command()
@serving
def web(config: Config) -> None:
    """Run the web process: accept reports over HTTP into the journal."""
    from granian import Granian  # noqa: PLC0415 - only this process is a web server
    from granian.constants import Interfaces, Loops  # noqa: PLC0415
    from granian.log import LogLevels  # noqa: PLC0415

    made: Callable[..., Any] = partial(app.web, Team(config.web_processes))
    server = Granian(
        "service.app:web",
        address=config.host,
        port=config.port,
        interface=Interfaces.RSGI,
        workers=config.web_processes,  # when one dies all end, and are started anew together: counts begin together
        loop=Loops.uvloop,
        backpressure=CONNECTIONS,
        websockets=False,
        workers_kill_timeout=10,
        log_level=LogLevels(config.log_level.lower()),
        log_dictconfig=logs.settings(config.log_level),
    )
    try:
        with only_one(config.data_dir, config.host, config.port):
            server.serve(target_loader=made, wrap_loader=False)
    except Taken as error:
        fail(str(error))


@click.command()
@serving
def relay(config: Config) -> None:  # noqa: ARG001 - read again by the composition root
    """Run the relay: publish the journal to Kafka. A second one waits as hot standby."""
    app.relay()


@click.command()
@click.option("--with", "others", multiple=True, metavar="COMMAND", help="Keep this command going too, e.g. a broker.")
@serving
def run(config: Config, others: tuple[str, ...]) -> None:
    """Run web and relay together on this machine, and keep them going.

    A process that ends is started again with back-off; when one keeps ending, everything stops with exit code 1.
    For production let systemd or Kubernetes keep `gridgov web` and `gridgov relay` going.
    """
    ours = [
        Child("web", [sys.executable, "-m", "service.cli", "web"]),
        Child("relay", [sys.executable, "-m", "service.cli", "relay"], hangs=Listener(config.data_dir, time).pulseless),
    ]
    theirs = [Child(command, shlex.split(command), essential=False) for command in others]
    try:
        keep([*ours, *theirs])
    except GaveUp as error:
        fail(f"gave up: {error}")
