"""A real Prometheus holding a prepared past, for tests that ask it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.broker import free_port
from tests.gridgov import until

Labels = tuple[tuple[str, str], ...]


def program(name: str) -> str:
    """The path of a program that `make test` brings. Fails the test when it is missing: never a skip."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: sh deploy/packages.sh test")
    return found


class Prometheus:
    """Scrapes nothing; answers on loopback about the samples in an OpenMetrics file."""

    def __init__(self, directory: Path, openmetrics: Path) -> None:
        directory.mkdir()
        self._log = directory / "log"
        blocks = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet"]
        # one block instead of one for every two hours: promtool reads the whole file once for each
        made = subprocess.run(
            [*blocks, "--max-block-duration=54h", openmetrics, directory / "data"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        (directory / "empty.yml").write_text("{}\n", encoding="utf-8")
        self._url = f"http://127.0.0.1:{free_port()}"
        self._command = [
            program("prometheus"),
            f"--config.file={directory / 'empty.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        ]
        self._http = urllib3.PoolManager(retries=False)

    def __enter__(self) -> Prometheus:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until(lambda: self._process.poll() is not None or self._is_ready(), "Prometheus answers", seconds=60)
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def now(self, expr: str, at: float) -> dict[Labels, float]:
        """The value of each series of an instant vector; a scalar has no labels."""
        found = self._ask("query", query=expr, time=at)
        if found["resultType"] == "scalar":
            return {(): float(found["result"][1])}
        return {_labels(series["metric"]): float(series["value"][1]) for series in found["result"]}

    def over(self, expr: str, start: float, end: float, step: float) -> dict[Labels, dict[float, float]]:
        """The points of each series."""
        found = self._ask("query_range", query=expr, start=start, end=end, step=step)["result"]
        return {_labels(one["metric"]): {at: float(value) for at, value in one["values"]} for one in found}

    def _ask(self, what: str, **fields: Any) -> dict[str, Any]:
        answer = json.loads(self._http.request("POST", f"{self._url}/api/v1/{what}", fields=fields).data)
        assert answer["status"] == "success", f"{answer.get('error')}: {fields['query']}"
        found: dict[str, Any] = answer["data"]
        return found

    def _is_ready(self) -> bool:
        return self._http.request("GET", f"{self._url}/-/ready").status == 200


def _labels(metric: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, value) for name, value in metric.items() if name != "__name__"))
