"""What the system tests share: a running gridgov of its own for whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import Kafka
from tests.gridgov import NO_KAFKA, Gridgov, alone, running


@pytest.fixture
def gridgov(kafka: Kafka, tmp_path: Path) -> Iterator[Gridgov]:
    """A gridgov of this test, running."""
    with running(Gridgov(tmp_path / "var", kafka.bootstrap)) as started:
        yield started


@pytest.fixture(scope="module")
def shared(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A gridgov for all tests of a module that do not disturb each other."""
    with running(Gridgov(tmp_path_factory.mktemp("gridgov") / "var", kafka.bootstrap)) as started:
        yield started


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gridgov]:
    """A web process alone: what it accepts stays in its journal. For tests that ask nothing of Kafka."""
    with alone(Gridgov(tmp_path_factory.mktemp("web") / "var", kafka=NO_KAFKA)) as started:
        yield started
