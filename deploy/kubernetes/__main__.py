"""Writes what of the manifests is made: `python -m deploy.kubernetes [--check]`.

Kafka's topics and user follow from the catalogue and from base/gridgov.env, the alerts from deploy/prometheus/rules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from deploy.generated import keep
from schemas.catalogue import Catalogue
from service import config as configuration
from service.broker.acls import needed
from service.broker.topics import wanted
from service.broker.weaknesses import made_with
from service.config import Config

HERE = Path(__file__).parent
RULES = HERE.parent / "prometheus" / "rules"
STRIMZI = "kafka.strimzi.io/v1"
MADE = "# Made by `make generate`.\n"


def options() -> Config:
    """Those of the pods, whose files (of Secrets) are not here."""
    lines = (HERE / "base" / "gridgov.env").read_text(encoding="utf-8").splitlines()
    config, _ = configuration.read(dict(line.split("=", 1) for line in lines if line and not line.startswith("#")))
    return config


def topics(names: Sequence[str], config: Config) -> Iterator[Any]:
    """A KafkaTopic each. Of several replicas two have what is acknowledged, whatever the cluster's default is."""
    for name in names:
        settings = {**made_with(config), "min.insync.replicas": str(min(2, config.topic_replication))}
        spec = {"partitions": config.topic_partitions, "replicas": config.topic_replication, "config": settings}
        yield {"apiVersion": STRIMZI, "kind": "KafkaTopic", "metadata": {"name": name}, "spec": spec}


def user(names: Sequence[str], config: Config) -> Iterator[Any]:
    """The KafkaUser, with a certificate, who may do what the relay needs."""
    acls = [
        {"resource": {"type": "topic", "name": topic}, "operations": [need.operation for need in needs]}
        for topic, needs in groupby(needed(names, config), key=lambda need: need.name)
    ]
    spec = {"authentication": {"type": "tls"}, "authorization": {"type": "simple", "acls": acls}}
    yield {"apiVersion": STRIMZI, "kind": "KafkaUser", "metadata": {"name": "gridgov"}, "spec": spec}


def rules() -> Iterator[Any]:
    """A PrometheusRule for each file."""
    for path in sorted(RULES.glob("*.yml")):
        spec, metadata = yaml.safe_load(path.read_text(encoding="utf-8")), {"name": f"gridgov-{path.stem}"}
        yield {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": spec}


def generated(catalogue: Catalogue) -> dict[str, str]:
    """The text of each file, by its path from here."""
    config = options()
    names = wanted(catalogue.topics, config)
    made = {
        "strimzi/topics.yaml": topics(names, config),
        "strimzi/user.yaml": user(names, config),
        "monitoring/rules.yaml": rules(),
    }
    return {path: MADE + _text(documents) for path, documents in made.items()}


def _text(documents: Iterator[Any]) -> str:
    return str(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, width=120))


def main(arguments: Sequence[str]) -> int:
    """See `deploy.generated.keep`."""
    return keep(HERE, "deploy/kubernetes", generated, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
