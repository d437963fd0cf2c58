"""`gridgov topics`: what the cluster has for us, and what it lacks."""

import sys
import time
from collections.abc import Callable, Collection

import click

from schemas.catalogue import Catalogue
from service.broker.topics import Cluster, ClusterUnreachable, weaknesses
from service.cli.command import configured, fail
from service.config import Config
from service.ports import Topic


@click.command()
@click.option("--apply", is_flag=True, help="Create the missing topics.")
@configured
def topics(config: Config, apply: bool) -> None:
    """Show the catalogue's topics as the cluster has them, and what is missing or weak.

    Exits with 1 while anything is. `--apply` creates missing topics with GRIDGOV_TOPIC_PARTITIONS and
    GRIDGOV_TOPIC_REPLICATION; it never changes one that exists.
    """

    names = Catalogue.load(config.catalogue_dir).topics
    cluster = Cluster(config)
    try:
        found = cluster.describe(names)
        missing = [name for name, topic in found.items() if not topic.partitions]
        if apply and missing:
            errors = cluster.create(missing, partitions=config.topic_partitions, replication=config.topic_replication)
            for name in missing:
                click.echo(f"{name}: {errors.get(name, 'created')}")
            found = _once_visible(lambda: cluster.describe(names), errors.keys())
        auto = cluster.auto_creates()
    except ClusterUnreachable as error:
        fail(f"no answer from {', '.join(config.kafka_servers)}: {error}")
    finally:
        cluster.close()
    weak = False
    for name, topic in found.items():
        problems = weaknesses(topic, config)
        weak = weak or bool(problems)
        state = click.style("; ".join(problems), fg="yellow") if problems else "ok"
        click.echo(f"{name:38} partitions {topic.partitions}  replicas {topic.replication}  {state}")
    if auto:
        click.secho("auto.create.topics.enable is on: a misspelt topic would be made instead of noticed", fg="yellow")
    if weak:
        sys.exit(1)


def _once_visible(describe: Callable[[], dict[str, Topic]], failed: Collection[str]) -> dict[str, Topic]:
    """The topics once every broker knows of those just created, or after a few seconds."""
    end = time.monotonic() + 5
    while True:
        found = describe()
        if all(topic.pause is None for topic in found.values() if topic.name not in failed) or time.monotonic() > end:
            return found
        time.sleep(0.1)
