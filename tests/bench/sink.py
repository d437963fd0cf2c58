"""How fast `gridgov sink` works a backlog of reports into its tables: in SQLite, and in a PostgreSQL beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from kafka import KafkaProducer

from schemas.catalogue import Catalogue
from tests.bench.figures import DATABASES, OURS, Figures, shown, table
from tests.bench.machine import cpu_seconds
from tests.bench.reports import STAGES, reports
from tests.bench.store import Store
from tests.broker import Broker, free_port
from tests.gridgov import Gridgov, until
from tests.postgresql import Postgresql
from tests.sunk import rows

ADDED: Final[dict[str, Any]] = {
    "received_at": "2026-01-01T00:00:00.000Z",
    "flags": [],
    "catalogue_edition": "cjt214-2007",
    "major_name": {"zh": "道路交通", "en": "road traffic"},
    "category_name": {"zh": "交通护栏", "en": "traffic guardrail"},
}
SAMPLE: Final = "gridgov_sink_records_total"
WORKED: Final = "gridgov_sink_last_transaction_timestamp_seconds"


@dataclass
class Backlog:
    """So many reports in the topics; each round reads them from the beginning into both databases, made anew."""

    broker: Broker
    figures: Figures
    scratch: Path
    reports: int
    say: Callable[[str], None]

    def fill(self) -> None:
        """As the relay would have: the reports of a case in their order, one partition for each case."""
        catalogue = Catalogue.load()
        store = Store(self.broker.bootstrap)
        store.create(catalogue.topics)
        store.close()
        producer: Any = KafkaProducer(bootstrap_servers=self.broker.bootstrap, linger_ms=20, batch_size=1 << 17)
        for seq, report in enumerate(reports("sink", self.reports), 1):
            value = orjson.loads(report) | ADDED
            value["occurred_at"] = value["occurred_at"][:19] + ".000Z"
            major = catalogue.lookup(value["kind"], value["category"]).major
            assert major is not None
            headers = {"ce_id": value["report_id"], "ce_source": "platform", "journal-id": "b", "journal-seq": str(seq)}
            producer.send(
                major.topic,
                key=value["case_id"].encode(),
                value=orjson.dumps(value),
                headers=[(name, text.encode()) for name, text in headers.items()],
            )
        producer.flush()
        producer.close()

    def round(self, number: int) -> None:
        """Both, one after the other."""
        for name in DATABASES if number % 2 == 0 else DATABASES[::-1]:
            if name == "sqlite":
                self._read(name, f"sqlite:///{self.scratch / f'{number}.db'}", number)
                continue
            server = Postgresql()
            try:
                server.start()
                self._read(name, server.url, number)
            finally:
                server.remove()

    def _read(self, name: str, url: str, number: int) -> None:
        env = {"GRIDGOV_SINK_METRICS_PORT": str(free_port()), "GRIDGOV_SINK_DATABASE": url}
        gridgov = Gridgov(self.scratch / "var", self.broker.bootstrap, env)
        process = gridgov.start("sink", "--group", f"{name}-{number}")
        port = int(env["GRIDGOV_SINK_METRICS_PORT"])
        try:
            first = until(lambda: _seen(gridgov, port)[0] and _seen(gridgov, port), "it works", seconds=60, every=0.1)
            spent = cpu_seconds([process.pid])
            until(lambda: _seen(gridgov, port)[0] >= self.reports, "all is worked in", seconds=300, every=0.2)
            last = _seen(gridgov, port)
            spent = cpu_seconds([process.pid]) - spent
        finally:
            gridgov.stop()
        assert rows(url, "SELECT (SELECT COUNT(*) FROM reports), (SELECT COUNT(*) FROM cases)") == [
            (self.reports, self.reports // len(STAGES))
        ]
        rate = (last[0] - first[0]) / (last[1] - first[1])
        cost = 1000 * spent / (last[0] - first[0])
        self.figures.add(OURS, f"sink {name}", rate=rate, cpu=cost)
        self.say(f"sink {name:12} {rate:9,.0f} reports/s  {cost:.4f} ms CPU a report")


def tables(figures: Figures) -> Iterator[str]:
    """Rate and processor time by database."""
    yield table(
        ["gridgov sink", "reports/s", "ms CPU a report"],
        (
            [name, *(shown(figures.median(OURS, f"sink {name}", measure)) for measure in ("rate", "cpu"))]
            for name in DATABASES
        ),
    )


def _seen(gridgov: Gridgov, port: int) -> tuple[float, float]:
    """How many reports it has worked in, and when the last of them."""
    told = gridgov.metrics(port)
    return told[f'{SAMPLE}{{result="reports"}}'], told[WORKED]
