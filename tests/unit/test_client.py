"""Relay and reader start only on the kafka-python whose inside they know."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, __version__
from kafka.partitioner import DefaultPartitioner

from service.broker import batches, places, publisher
from service.broker.connection import unfamiliar
from service.broker.publisher import RELIED_ON, Producer, check_client, partition_of
from service.config import ConfigError


@pytest.fixture(scope="module")
def producer() -> Iterator[Producer]:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a refused connection it would leave to the collector
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        made = Producer(bootstrap_servers=[address], api_version=(3, 0), enable_idempotence=False)
        yield made
        made.close(timeout=1)


@pytest.fixture(scope="module")
def consumer() -> Iterator[KafkaConsumer]:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a refused connection it would leave to the collector
        made = KafkaConsumer(bootstrap_servers=[f"127.0.0.1:{silent.getsockname()[1]}"], api_version=(3, 0))
        yield made
        made.close(autocommit=False, timeout_ms=1_000)


@pytest.fixture(scope="module")
def batch() -> object:
    return batches.plain()


def renamed(holder: object, path: str, known: set[str]) -> SimpleNamespace:
    """The same, as far as it is looked at (`known` names), but for one attribute, which has another name."""
    name, _, rest = path.partition(".")
    seen = {one: getattr(holder, one) for one in known if hasattr(holder, one)}
    if rest:
        return SimpleNamespace(**seen | {name: renamed(seen[name], rest, known)})
    return SimpleNamespace(**{f"{one}_" if one == name else one: value for one, value in seen.items()})


RELIANCE = {"producer": publisher.RELIED_ON, "batch": batches.RELIED_ON, "consumer": places.RELIED_ON}


@pytest.mark.parametrize("client", RELIANCE)
def test_the_client_that_is_locked_is_the_one_we_know(client: str, request: pytest.FixtureRequest) -> None:
    assert unfamiliar(request.getfixturevalue(client), RELIANCE[client]) == []
    check_client()


@pytest.mark.parametrize(("client", "path"), [(client, path) for client, paths in RELIANCE.items() for path in paths])
def test_one_attribute_with_another_name_is_told(client: str, path: str, request: pytest.FixtureRequest) -> None:
    relied_on = RELIANCE[client]
    names = {name for one in relied_on for name in one.split(".")}

    [problem] = unfamiliar(renamed(request.getfixturevalue(client), path, names), relied_on)

    assert f"kafka-python {__version__}" in problem
    assert f"no {path}, without which {relied_on[path]}" in problem


def test_the_relay_does_not_start_on_another_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELIED_ON, "_sender.stop_at_once", "nothing would end")

    with pytest.raises(ConfigError, match="stop_at_once"):
        check_client()


@given(key=st.binary(max_size=70), partitions=st.integers(1, 50))
def test_a_case_goes_where_every_other_client_would_send_it(key: bytes, partitions: int) -> None:
    numbers = set(range(partitions))
    cluster = SimpleNamespace(
        topics=lambda: {"t"}, partitions_for_topic=lambda _: numbers, available_partitions_for_topic=lambda _: numbers
    )

    assert partition_of(key, numbers) == DefaultPartitioner().partition("t", None, key, None, b"", cluster)
