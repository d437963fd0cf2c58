"""What `gridgov sink` tells Prometheus of itself, read when scraped."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.consumer.reader import Counts

RESULTS = ("reports", "duplicates", "unselected", "foreign", "failed")


class Read(Protocol):
    """What is asked of a reader."""

    @property
    def counts(self) -> Counts: ...

    @property
    def lag(self) -> Mapping[tuple[str, int], int]: ...

    @property
    def worked_at(self) -> float | None: ...

    @property
    def turned_at(self) -> float | None: ...


class SinkCollector(Collector):
    """One reader's figures, since its process began."""

    def __init__(self, reader: Read) -> None:
        self._reader = reader

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that registering does not read."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Counters of what was read, and how far behind it is."""
        counts = self._reader.counts
        records = CounterMetricFamily("gridgov_sink_records", "Records read, by what became of it.", labels=["result"])
        for result in RESULTS:
            records.add_metric([result], getattr(counts, result))
        yield records
        for name, doc, value in (
            ("gap_offsets", "Offsets that were gone before they were read, or could not be decoded.", counts.gaps),
            ("overtaken_partitions", "Parts of batches dropped, as another member had read on.", counts.overtaken),
            ("transactions", "Transactions of the database.", counts.transactions),
        ):
            yield CounterMetricFamily(f"gridgov_sink_{name}", doc, value=value)
        lag = GaugeMetricFamily(
            "gridgov_sink_lag_records",
            "Records not worked in yet, of the partitions that this member has.",
            labels=["topic", "partition"],
        )
        for (topic, partition), behind in self._reader.lag.items():
            lag.add_metric([topic, str(partition)], behind)
        yield lag
        for name, doc, at in (
            ("last_transaction", "When something was last worked in; 0 = not yet.", self._reader.worked_at),
            ("turned", "When Kafka and the database were both last at hand; 0 = not yet.", self._reader.turned_at),
        ):
            yield GaugeMetricFamily(f"gridgov_sink_{name}_timestamp_seconds", doc, value=at or 0)
