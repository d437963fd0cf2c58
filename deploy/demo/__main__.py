"""`make demo`: all of gridgov, and a district that keeps it busy, sixty times as fast as life. Ctrl-C ends all of it.

A broker, the service, Prometheus and Alertmanager as shipped but for their ports and for time, a simulated district,
and the dashboards live in the browser. What it writes lies in var/demo and goes when it ends. Ports, for where
they are somebody else's: DEMO_PORT (3000), PROMETHEUS_PORT, ALERTMANAGER_PORT, OWN_KAFKA_PORT, GRIDGOV_PORT, and the
two of the metrics. The speed is DEMO_SPEED; DEMO_PAGE=no builds no page, and needs no npm.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from deploy.demo.boards import LANGUAGES, boards, faster
from deploy.demo.faster import shortened
from deploy.demo.server import Server, State

ROOT = Path(__file__).parents[2]
# Relative, and we work in ROOT: to a Prometheus, the name of a directory of somebody's may be a pattern.
HOME = Path("var/demo")
SHIPPED = Path("deploy/prometheus")
GRAFANA = Path("deploy/grafana/provisioning")
BROKER = Path("deploy/kafka/broker.py")
PORTS = {
    "DEMO_PORT": 3000,
    "GRIDGOV_PORT": 8080,
    "GRIDGOV_WEB_METRICS_PORT": 9464,
    "GRIDGOV_RELAY_METRICS_PORT": 9465,
    "OWN_KAFKA_PORT": 9092,
    "PROMETHEUS_PORT": 9090,
    "ALERTMANAGER_PORT": 9093,
}
DISTRICT = "--begin 07:30 --days 3 --cases 1000 --scenario rain --scenario retry-storm --scenario operation"
PR_SET_PDEATHSIG = 1


class Demo:
    """What runs, on which ports, and how fast."""

    def __init__(self) -> None:
        self.port = {name: int(os.environ.get(name, default)) for name, default in PORTS.items()}
        self.speed = float(os.environ.get("DEMO_SPEED", "60"))
        self.has_page = os.environ.get("DEMO_PAGE", "yes") == "yes"
        self.page = f"http://127.0.0.1:{self.port['DEMO_PORT']}"

    def taken(self) -> list[str]:
        """The ports that somebody else listens on."""
        return [f"{port} ({name})" for name, port in self.port.items() if not _is_free(port)]

    def configure(self) -> None:
        """Write the shipped configurations for these ports and this speed."""
        for file in (SHIPPED / "rules").glob("*.yml"):
            _write(HOME / "rules" / file.name, shortened(_read(file), self.speed))
        _write(HOME / "prometheus.yml", self._prometheus())
        _write(HOME / "alertmanager.yml", self._alertmanager())

    def _prometheus(self) -> dict[str, Any]:
        config: dict[str, Any] = shortened(_read(SHIPPED / "prometheus.yml"), self.speed)
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["global"]["external_labels"] = {"grafana": self.page, "runbooks": f"{self.page}/runbooks"}
        ports = {"gridgov-web": "GRIDGOV_WEB_METRICS_PORT", "gridgov-relay": "GRIDGOV_RELAY_METRICS_PORT"}
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{self.port[ports[job['job_name']]]}"]}]
        alertmanager = f"127.0.0.1:{self.port['ALERTMANAGER_PORT']}"
        config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
        return config

    def _alertmanager(self) -> dict[str, Any]:
        config: dict[str, Any] = shortened(_read(SHIPPED / "alertmanager.yml"), self.speed)
        for receiver in config["receivers"]:
            receiver["webhook_configs"] = [{"url": f"{self.page}/told/{receiver['name']}"}]
        return config

    def commands(self) -> list[list[str]]:
        """What runs beside web and relay, in the order in which it is ended."""
        at = {name: f"127.0.0.1:{port}" for name, port in self.port.items()}
        district = ["-m", "service.cli", "simulate", "--speed", f"{self.speed:g}", *DISTRICT.split()]
        return [
            [sys.executable, *district],
            [
                *(
                    "prometheus",
                    f"--config.file={HOME / 'prometheus.yml'}",
                    f"--storage.tsdb.path={HOME / 'prometheus'}",
                ),
                *(f"--web.listen-address={at['PROMETHEUS_PORT']}", "--log.level=error"),
            ],
            [
                *("prometheus-alertmanager", f"--config.file={HOME / 'alertmanager.yml'}", "--cluster.listen-address="),
                *(f"--storage.path={HOME / 'alertmanager'}", f"--web.listen-address={at['ALERTMANAGER_PORT']}"),
                "--log.level=error",
            ],
            [
                *(sys.executable, str(BROKER), "serve", f"--port={self.port['OWN_KAFKA_PORT']}"),
                f"--data-dir={HOME / 'kafka'}",
            ],
        ]

    def environment(self) -> dict[str, str]:
        """Ours, without options that somebody has set for another gridgov."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRIDGOV_", "KAFKA_S"))}
        return clean | {
            "GRIDGOV_DATA_DIR": str(HOME / "gridgov"),
            "GRIDGOV_ALLOW_VOLATILE": "yes",
            "GRIDGOV_CREATE_TOPICS": "yes",
            "GRIDGOV_LOG_LEVEL": os.environ.get("GRIDGOV_LOG_LEVEL", "ERROR"),
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{self.port['OWN_KAFKA_PORT']}",
            **{name: str(port) for name, port in self.port.items() if name.startswith("GRIDGOV_")},
        }

    def provision(self) -> None:
        """What a Grafana of somebody's needs to show the same."""
        for language in LANGUAGES:
            for name, board in boards(language).items():
                _write(HOME / "grafana" / language / f"{name}.json", faster(board, self.speed))
        shutil.copytree(GRAFANA / "datasources", HOME / "grafana" / "provisioning" / "datasources")
        providers = _read(GRAFANA / "dashboards" / "gridgov.yaml")
        for provider in providers["providers"]:
            language = Path(provider["options"]["path"]).name
            provider["options"]["path"] = str((HOME / "grafana" / language).resolve())
        _write(HOME / "grafana" / "provisioning" / "dashboards" / "gridgov.yaml", providers)


def main() -> int:
    os.chdir(ROOT)
    demo = Demo()
    if taken := demo.taken():
        print(f"somebody else listens on port {', '.join(taken)}: name other ports, or end that", file=sys.stderr)
        return 1
    if subprocess.run([sys.executable, str(BROKER), "prepare"], stdout=subprocess.DEVNULL, check=False).returncode:
        return 1  # it has said why
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: sys.exit())
    with ExitStack() as running:
        running.callback(_remove)
        shutil.rmtree(HOME, ignore_errors=True)
        demo.configure()
        demo.provision()
        builder = running.enter_context(_ended(_start("deploy.demo.bundle"))) if demo.has_page else None
        others = [word for command in demo.commands() for word in ("--with", shlex.join(command))]
        process = running.enter_context(_ended(_start("service.cli", "run", *others, env=demo.environment())))
        _serve(demo, builder, running)
        print(_hint(demo), flush=True)
        running.callback(_be_patient)
        return process.wait()


def _serve(demo: Demo, builder: subprocess.Popen[bytes] | None, running: ExitStack) -> None:
    """The page's server, on a thread of its own, until the stack is left."""

    def trouble() -> str:
        return "" if builder and builder.poll() in {None, 0} else "npm: DEMO_PAGE=no, or see the terminal"

    state = State(f"http://127.0.0.1:{demo.port['PROMETHEUS_PORT']}", demo.speed, trouble)
    server = running.enter_context(Server(demo.port["DEMO_PORT"], state))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    running.callback(server.shutdown)


def _start(module: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Run a module of ours; it is told to end when we have, however that came about. Ctrl-C reaches us alone."""
    command = [sys.executable, "-m", module, *arguments]
    leash = _end_with_parent  # we have one thread yet, so it is safe
    return subprocess.Popen(command, env=env, start_new_session=True, preexec_fn=leash)  # noqa: PLW1509


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A process, and whoever is in its session with it, ended on the way out."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _remove() -> None:
    """What was written; and var, where it was only for us."""
    shutil.rmtree(HOME, ignore_errors=True)
    with suppress(OSError):
        HOME.parent.rmdir()


def _be_patient() -> None:
    """Ending takes seconds; another Ctrl-C shall not break it off."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)


def _hint(demo: Demo) -> str:
    api = f"http://127.0.0.1:{demo.port['GRIDGOV_PORT']}"
    return f"""
  {demo.page}/    the dashboards, live: {demo.speed:g} times as fast as life, a day in {1440 / demo.speed:g} minutes
  {api}/docs   the API        http://127.0.0.1:{demo.port["PROMETHEUS_PORT"]}   Prometheus, its rules and alerts

  Have a Grafana? Start it with these two in its environment, and it has the same dashboards:
    PROMETHEUS_URL=http://127.0.0.1:{demo.port["PROMETHEUS_PORT"]}
    GF_PATHS_PROVISIONING={HOME.resolve()}/grafana/provisioning

First figures in half a minute. Ctrl-C ends all of it.
"""


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _write(file: Path, value: Any) -> None:
    """YAML, of which JSON is a kind."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write = json.dumps if file.suffix == ".json" else yaml.safe_dump
    file.write_text(write(value), encoding="utf-8")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _end_with_parent() -> None:
    """Linux: be told to end when the parent is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


if __name__ == "__main__":
    sys.exit(main())
