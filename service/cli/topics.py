"""`gridgov topics`: what the cluster has for us, and what it lacks."""

import sys
import time
from collections.abc import Callable, Collection, Iterable

import click

from schemas.catalogue import Catalogue
from service.broker.acls import Need, command, needed_to_read
from service.broker.acls import needed as acls_needed
from service.broker.topics import Cluster, ClusterUnreachable, wanted
from service.broker.weaknesses import complaints, made_with
from service.cli.command import configured, fail
from service.config import Config
from service.ports import Topic


@click.command()
@click.option("--apply", is_flag=True, help="Create the missing topics.")
@click.option("--acls", is_flag=True, help="Print what the cluster has to permit us; asks it nothing.")
@click.option(
    "--for", "whom", type=click.Choice(["relay", "consume", "sink"]), default="relay", help="Whose account it is."
)
@click.option("--group", default="gridgov-sink", show_default=True, help="The group of the sink.")
@click.option("--principal", metavar="NAME", help="Whom to permit it.  [default: User:GRIDGOV_KAFKA_USER]")
@configured
def topics(config: Config, *, apply: bool, acls: bool, whom: str, group: str, principal: str | None) -> None:
    """Show the catalogue's topics as the cluster has them, what is missing, and what loses messages or their order.

    Exits with 1 while anything does. `--apply` creates missing topics with GRIDGOV_TOPIC_PARTITIONS,
    GRIDGOV_TOPIC_REPLICATION and GRIDGOV_TOPIC_RETENTION_HOURS; it never changes one that exists. `--acls` prints the
    least that the relay has to be permitted, as commands; Create is among it only with GRIDGOV_CREATE_TOPICS=yes. With
    `--for consume` or `--for sink` it is what a reader needs: to read the reports' topics, and a sink its group.
    """
    reports = Catalogue.load(config.catalogue_dir).topics
    names = wanted(reports, config)
    if acls:
        to_read = needed_to_read(reports, group if whom == "sink" else None)
        _print_acls(config, acls_needed(names, config) if whom == "relay" else to_read, principal)
        return
    cluster = Cluster(config)
    try:
        found = cluster.describe(names)
        missing = [name for name, topic in found.items() if not topic.partitions]
        if apply and missing:
            errors = cluster.create(
                missing,
                partitions=config.topic_partitions,
                replication=config.topic_replication,
                settings=made_with(config),
            )
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
        problems = complaints(topic, config)
        weak = weak or bool(problems)
        state = click.style("to be mended", fg="yellow") if problems else "ok"
        click.echo(f"{name:38} partitions {topic.partitions}  replicas {topic.replication}  {state}")
        for problem in problems:
            click.secho(f"  - {problem}", fg="yellow")
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


def _print_acls(config: Config, needs: Iterable[Need], principal: str | None) -> None:
    if principal is None and config.kafka_user is None:
        fail("whom to permit it? say --principal User:NAME, with mTLS as the brokers map the certificate's name")
    for need in needs:
        click.echo(command(need, principal or f"User:{config.kafka_user}", config))
