"""The relay starts only on the kafka-python whose inside it knows."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import __version__
from kafka.partitioner import DefaultPartitioner

from service.broker.publisher import RELIED_ON, ByCase, Producer, check_client, unfamiliar
from service.config import ConfigError


@pytest.fixture(scope="module")
def producer() -> Iterator[Producer]:
    made = Producer(bootstrap_servers=["127.0.0.1:9"], api_version=(3, 0), enable_idempotence=False)
    yield made
    made.close(timeout=1)


def renamed(holder: object, path: str) -> SimpleNamespace:
    """The same, as far as it is looked at, but for one attribute, which has another name."""
    name, _, rest = path.partition(".")
    names = {one.split(".")[0] for one in (path, "_metadata", "_sender", "_client", *INSIDE) if hasattr(holder, one)}
    known = {one: getattr(holder, one) for one in names}
    if rest:
        return SimpleNamespace(**known | {name: renamed(known[name], rest)})
    return SimpleNamespace(**{f"{one}_" if one == name else one: value for one, value in known.items()})


INSIDE = sorted({name for path in RELIED_ON for name in path.split(".")})


def test_the_client_that_is_locked_is_the_one_we_know(producer: Producer) -> None:
    check_client()
    assert unfamiliar(producer) == []


@pytest.mark.parametrize("path", RELIED_ON)
def test_one_attribute_with_another_name_is_told(producer: Producer, path: str) -> None:
    [problem] = unfamiliar(renamed(producer, path))

    assert f"kafka-python {__version__}" in problem
    assert f"no {path}, without which {RELIED_ON[path]}" in problem


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

    assert ByCase().partition("t", None, key, None, b"", cluster) == DefaultPartitioner().partition(
        "t", None, key, None, b"", cluster
    )
