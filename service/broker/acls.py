"""What the cluster has to permit us, and no more: one list, for `gridgov topics --acls` and its test."""

import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from service.config import Config


class Need(NamedTuple):
    """An operation on one topic, by Kafka's name."""

    operation: str
    topic: str


def needed(topics: Iterable[str], config: Config) -> Iterator[Need]:
    """What the relay needs: to write (which lets it see them), to read their settings, and to make what is missing.

    An idempotent producer needs no more than to write (Kafka 3.0 and later); `Describe` follows from it.
    """
    operations = ("Write", "DescribeConfigs", *(("Create",) if config.create_topics else ()))
    return (Need(operation, topic) for topic in topics for operation in operations)


def command(need: Need, principal: str, config: Config) -> str:
    """The line for Kafka's own program that permits it."""
    words = ["kafka-acls.sh", "--bootstrap-server", config.kafka_servers[0], "--add", "--allow-principal", principal]
    return shlex.join([*words, "--operation", need.operation, "--topic", need.topic])
