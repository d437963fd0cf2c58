"""Everything the service exposes, by the objects that declare it."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry

from schemas.catalogue import Catalogue
from schemas.reasons import Reason
from service import docs, ops
from service.cases import api as case_api
from service.cases.casebook import Casebook
from service.cases.fold import CaseFold
from service.cases.metrics import CaseCollector
from service.cases.rules import fingerprint
from service.consumer import Database, Reader
from service.domain.meaning import Flag
from service.domain.standards import Rules
from service.intake.api import UNMATCHED, Api
from service.journal.journal import SqliteJournal
from service.metrics import JournalCollector, WebMetrics, registry, relay_metrics, web_metrics
from service.sink.metrics import SinkCollector


def for_web(into: CollectorRegistry, catalogue: Catalogue) -> WebMetrics:
    """As the composition root makes them."""
    return web_metrics(
        into,
        routes=[*Api.ROUTES, *case_api.ROUTES, *docs.ROUTES, *ops.ROUTES, UNMATCHED],
        majors=catalogue.majors,
        stages=list(catalogue.stages),
        reasons=list(Reason),
        flags=list(Flag),
    )


def exposed(directory: Path, catalogue: Catalogue) -> CollectorRegistry:
    """All of a web process, a leading relay and a sink in one registry, on empty databases in `directory`."""
    told = registry("web")
    journal = SqliteJournal(directory, limit=1 << 28, flush=False)
    rules = Rules(catalogue.limit)
    fold = CaseFold(
        journal,
        lambda: Casebook.in_files(directory, rules),
        rules,
        fingerprint(catalogue, rules),
        clock=lambda: 0,
        strip_after_ms=1,
    )
    fold.open()
    for_web(told, catalogue)
    relay_metrics(told, catalogue.topics)
    told.register(JournalCollector(journal))
    told.register(CaseCollector(fold, catalogue))
    reader = Reader({}, Database.at(f"sqlite:///{directory / 'sink.db'}"), lambda *_: None, group="sink")
    reader.lag = {(topic, 0): 0 for topic in catalogue.topics}
    told.register(SinkCollector(reader))
    return told
