"""Fixtures that many kinds of test share."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.broker import Broker, ExternalKafka, Kafka, serving
from tests.postgresql import Postgresql

settings.register_profile("busy", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")  # how long an example takes says how busy the machine is


@pytest.fixture(autouse=True, scope="module")
def _left_to_the_collector() -> Iterator[None]:
    """kafka-python 3.0.12 leaves the sockets of failed connections to the garbage collector: it shall find them here,
    not in whatever test of another module runs when it comes by."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def kafka_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The one broker of the session; ask for `kafka` or `breakable_kafka` instead."""
    with serving(Broker(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Kafka:
    """A running broker: the one in KAFKA_BOOTSTRAP_SERVERS if set, else this session's own."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return ExternalKafka(bootstrap)
    own: Broker = request.getfixturevalue("kafka_of_this_session")
    return own


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL of this module's own, running."""
    one = Postgresql()
    try:
        one.start()
        yield one
    finally:
        one.remove()


@pytest.fixture
def breakable_kafka(kafka_of_this_session: Broker) -> Iterator[Broker]:
    """This session's own broker, for a test that stops or kills it; running before and after the test."""
    kafka_of_this_session.start()
    yield kafka_of_this_session
    kafka_of_this_session.start()
