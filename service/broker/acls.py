"""What the cluster has to permit us, and no more: one list, for `gridgov topics --acls` and its test."""

import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from service.config import Config


class Need(NamedTuple):
    """An operation on one topic, or on one consumer group, by Kafka's names."""

    operation: str
    name: str
    of: str = "topic"


def needed(topics: Iterable[str], config: Config) -> Iterator[Need]:
    """What the relay needs: to write (which lets it see them), to read their settings, and to make what is missing.

    An idempotent producer needs no more than to write (Kafka 3.0 and later); `Describe` follows from it.
    """
    operations = ("Write", "DescribeConfigs", *(("Create",) if config.create_topics else ()))
    return (Need(operation, topic) for topic in topics for operation in operations)


def needed_to_read(topics: Iterable[str], group: str | None) -> Iterator[Need]:
    """What a reader needs: to read the topics, and its group, unless it is in none."""
    yield from (Need("Read", topic) for topic in topics)
    if group is not None:
        yield Need("Read", group, "group")


def command(need: Need, principal: str, config: Config) -> str:
    """The line for Kafka's own program that permits it."""
    words = ["kafka-acls.sh", "--bootstrap-server", config.kafka_servers[0], "--add", "--allow-principal", principal]
    return shlex.join([*words, "--operation", need.operation, f"--{need.of}", need.name])
