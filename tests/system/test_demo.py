"""`make demo`: figures move, a browser draws them, wherever the checkout lies; and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.broker import ODD_NAME
from tests.demo import Demo, shown
from tests.gridgov import listens, until
from tests.system.chromium import Visit, visit

ROOT = Path(__file__).parents[2]


def started(demo: Demo, log: Path, page: str = "no") -> Demo:
    demo.start([sys.executable, "-m", "deploy.demo"], log, {"DEMO_PAGE": page})
    return demo


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Demo]:
    """Without its page, if it is not asked for."""
    checkout = tmp_path / ODD_NAME
    checkout.mkdir()
    (checkout / "deploy").symlink_to(ROOT / "deploy")
    made = started(Demo(checkout), tmp_path / "log", getattr(request, "param", "no"))
    yield made
    if made.process.poll() is None:
        made.process.terminate()
        made.process.wait(60)


def drawn(demo: Demo, directory: Path) -> Visit | None:
    """The page as a browser has it; None: its time was over before it had a figure."""
    with TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as profile:
        page = visit(f"{demo.page}/d/gridgov-wall", Path(profile))
    return page if shown(page.dom, "未结") else None


@pytest.mark.parametrize("demo", ["yes"], indirect=True)
def test_figures_move_and_nothing_is_left(demo: Demo, tmp_path: Path) -> None:
    told = 'sum(gridgov_reports_total{result="accepted"})'
    first = until(lambda: demo.figure(told), "a first figure", seconds=300, every=0.2)
    until(lambda: (demo.figure(told) or 0) > first, "a figure that moves", seconds=120)
    until(lambda: demo.figure("sum(gridgov_kafka_publishes_total)"), "Kafka has some of it", seconds=120)
    until(lambda: (demo.figure("count(gridgov:cases_open:max)") or 0) > 0, "the rules are worked out", seconds=120)

    setting = demo.asked("/boards/gridgov-wall")
    for panel in setting["board"]["panels"]:
        for target in panel.get("targets", []):
            assert demo.asked("/prometheus/api/v1/query", query=target["expr"])["status"] == "success", panel["title"]
    assert until(lambda: demo.asked("/told"), "Alertmanager tells somebody", seconds=300)[0]["receiver"]
    until(demo.is_drawn, "the page is built", seconds=300, every=0.2)
    page = until(lambda: drawn(demo, tmp_path), "a browser draws it", seconds=300)
    assert [panel["title"] for panel in setting["board"]["panels"] if f">{panel['title']}<" not in page.dom] == []
    assert page.complaints == []
    assert [url for url in page.asked if not url.startswith(demo.page)] == []
    family = demo.family()
    assert len(family) >= 7  # we, run, web and its worker, relay, broker, Prometheus, Alertmanager, the simulation

    demo.process.send_signal(signal.SIGINT)

    assert demo.process.wait(60) == 0, (tmp_path / "log").read_text()
    assert demo.family() == set()
    assert [port for port in demo.ports.values() if listens(port)] == []
    assert [path.name for path in demo.checkout.iterdir()] == ["deploy"]


def test_a_port_that_somebody_has_is_told_in_one_line(demo: Demo, tmp_path: Path) -> None:
    until(lambda: listens(demo.ports["DEMO_PORT"]), "the first demo is there", seconds=60)

    second = started(Demo(demo.checkout, demo.ports), tmp_path / "second")

    assert second.process.wait(30) == 1
    [line] = (tmp_path / "second").read_text().splitlines()
    assert f"{demo.ports['DEMO_PORT']} (DEMO_PORT)" in line
