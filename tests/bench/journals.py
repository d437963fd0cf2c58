"""What a journal on PostgreSQL accepts, beside SQLite's: the server has the same two cores; no relay, Kafka at rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from tests.bench import web_processes
from tests.bench.contestants import Ours, gridgov
from tests.bench.figures import Figures
from tests.bench.growth import ROOM
from tests.postgresql import Postgresql

NAMES: Final = {"SQLite": "on sqlite", "PostgreSQL": "on postgresql"}


class Journals(web_processes.Processes):
    """One gridgov on each, in turn."""

    def made(self, stack: ExitStack) -> list[Ours]:
        """With a PostgreSQL of their own."""
        server = Postgresql()
        stack.callback(server.remove)
        server.start()
        envs = {"on sqlite": ROOM, "on postgresql": ROOM | {"GRIDGOV_JOURNAL": server.url}}
        return [gridgov(name, env=env, commands=("web",)) for name, env in envs.items()]


def tables(figures: Figures) -> Iterator[str]:
    """Rates and processor time of the web process, by journal."""
    yield from web_processes.tables(figures, "journal, no relay", NAMES)
