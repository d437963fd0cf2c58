"""Case metrics: read from the casebook when scraped, exposed by the relay's leader alone (`max by`, never `sum`).

Totals live in the casebook, so a restart neither resets nor repeats a count.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from schemas.catalogue import Catalogue
from schemas.words import Standard, Supervision
from service.cases.casebook import Casebook
from service.cases.fold import CaseFold
from service.cases.news import BUCKETS
from service.cases.search import Labels
from service.domain.case import Outcome, Phase
from service.domain.flags import CaseFlag
from service.ports import JournalError

PROGRESS = (Phase.AWAITING_ARRIVAL, Phase.IN_PROGRESS, Phase.AWAITING_APPROVAL)
_PLACE = ("kind", "major")


class CaseCollector(Collector):
    """Everything about cases, with every label set there from the start; nothing while the casebook cannot be read."""

    def __init__(self, fold: CaseFold, catalogue: Catalogue) -> None:
        self._fold, self._catalogue = fold, catalogue
        self._places = list(catalogue.majors)
        judged = {(one.kind, one.standard) for one in catalogue.standards}
        self._judged = [
            (kind, major, standard)
            for (kind, major), standard in product(self._places, Standard)
            if (kind, standard) in judged
        ]

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that registering does not read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One pass over the totals and the open cases."""
        if (book := self._fold.casebook) is None:
            return
        try:
            yield from self._counted(book.totals())
            yield from self._open(book)
            yield from self._running(book)
        except JournalError:
            return
        yield from self._machinery()

    def _counted(self, totals: Mapping[str, Mapping[Labels, float]]) -> Iterator[Metric]:
        for name, doc, labels, values in (
            ("cases_reported", "Cases first reported.", _PLACE, self._places),
            ("cases_approved", "Cases approved at least once; 完成率 = approved ÷ reported.", _PLACE, self._places),
            ("case_reopenings", "Reworks ordered (返工).", _PLACE, self._places),
            (
                "case_standard",
                "Cases by the outcome they were first judged with.",
                (*_PLACE, "standard", "outcome"),
                [(*judged, outcome) for judged, outcome in product(self._judged, Outcome)],
            ),
            (
                "case_standard_corrections",
                "Outcomes that a later truth has turned: exact met = met + corrected to met - corrected to breached.",
                (*_PLACE, "standard", "to"),
                [(*judged, outcome) for judged, outcome in product(self._judged, Outcome)],
            ),
            ("case_flags", "What was odd about cases, each once per case.", ("flag",), [(flag,) for flag in CaseFlag]),
            ("case_fold_failures", "Reports and cases set aside, as they could not be worked in.", (), [()]),
            ("case_fold_gap_messages", "Messages missed for good after an old casebook was restored.", (), [()]),
        ):
            kept = totals.get(_KEPT_AS[name], {})
            family = CounterMetricFamily(f"gridgov_{name}", doc, labels=labels)
            for value in values:
                family.add_metric([str(part) for part in value], kept.get(tuple(value), 0.0))
            yield family
        for standard in Standard:
            yield self._durations(standard, totals)

    def _durations(self, standard: Standard, totals: Mapping[str, Mapping[Labels, float]]) -> Metric:
        family = HistogramMetricFamily(
            f"gridgov_case_{standard}_seconds",
            f"From the start of the clock to {_REACHED[standard]}, once per case.",
            labels=_PLACE,
        )
        kept = totals.get(f"{standard}_seconds", {})
        sums = totals.get(f"{standard}_seconds_sum", {})
        for place in self._places:
            below, buckets = 0.0, []
            for edge in (*map(str, BUCKETS[standard]), "+Inf"):
                below += kept.get((*place, edge), 0.0)
                buckets.append((edge if edge == "+Inf" else f"{edge}.0", below))
            family.add_metric(place, buckets, sums.get(place, 0.0))
        return family

    def _open(self, book: Casebook) -> Iterator[Metric]:
        by_progress, by_supervision = book.open_by_progress(), book.open_by_supervision()
        family = GaugeMetricFamily("gridgov_cases_open", "Open cases by how far they are.", labels=(*_PLACE, "phase"))
        for (kind, major), phase in product(self._places, PROGRESS):
            family.add_metric([kind, major, phase], by_progress.get((kind, major, phase.value), 0))
        yield family
        family = GaugeMetricFamily(
            "gridgov_cases_open_supervised", "Open cases by supervision.", labels=("kind", "supervision")
        )
        for kind, level in product(self._catalogue.kinds, Supervision):
            family.add_metric([kind, level], by_supervision.get((kind, level.value), 0))
        yield family
        oldest = book.oldest_open()
        family = GaugeMetricFamily(
            "gridgov_case_oldest_open_timestamp_seconds",
            "When the oldest open case was reported; 0 = none.",
            labels=["kind"],
        )
        for kind in self._catalogue.kinds:
            family.add_metric([kind], oldest.get(kind, 0) / 1000)
        yield family

    def _running(self, book: Casebook) -> Iterator[Metric]:
        now = int(time.time() * 1000)
        for what, doc in (
            ("overdue", "Open cases past a deadline that is not fulfilled; no grace."),
            ("due_soon", "Open cases whose deadline comes within 5 minutes (2 hours for promises of hours)."),
        ):
            family = GaugeMetricFamily(f"gridgov_cases_{what}", doc, labels=(*_PLACE, "standard"))
            counts = {standard: book.running(what, standard, now) for standard in Standard}
            for kind, major, standard in self._judged:
                family.add_metric([kind, major, standard], counts[standard].get((kind, major), 0))
            yield family
        family = GaugeMetricFamily(
            "gridgov_case_standard_limit_seconds",
            "What is promised, but for single categories.",
            labels=("kind", "standard"),
        )
        for one in self._catalogue.standards:
            if one.category is None:
                family.add_metric([one.kind, one.standard], one.limit_seconds)
        yield family

    def _machinery(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "gridgov_case_fold_lag_messages", "Accepted reports not yet folded into their case.", value=self._fold.lag
        )
        yield GaugeMetricFamily(
            "gridgov_case_tracker_last_run_timestamp_seconds",
            "When deadlines were last swept; 0 = not yet.",
            value=self._fold.last_run or 0,
        )


_REACHED = {Standard.ARRIVAL: "arrival on site", Standard.COMPLETION: "the finish, when its outcome is decided"}
_KEPT_AS = {
    "cases_reported": "reported",
    "cases_approved": "approved",
    "case_reopenings": "reopenings",
    "case_standard": "standard",
    "case_standard_corrections": "corrections",
    "case_flags": "flags",
    "case_fold_failures": "failures",
    "case_fold_gap_messages": "gaps",
}
