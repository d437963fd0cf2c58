"""A rendered pod without a cluster: its containers as real processes, on Linux's own namespaces. Needs root.

They share a network namespace (so the ports are the manifest's own) and have each a process and a mount namespace: the
root is read-only, the volumes lie where the manifest mounts them, the user, the groups and the capabilities are its
security context's. Not reproduced: seccomp, limits of resources, network policies.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.gridgov import GRIDGOV, die_with_parent

CLONE_NEWNET = 0x40000000
ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
LOOPBACK_UP = (  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 0x41))"
)
# $1 the new root, made of what this machine has for an image; the rest of the arguments is the command. `bind` A B.
CONTAINER = """
set -eu
root=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$root"
mkdir -p "$root/proc" "$root/dev/shm" "$root/etc"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for file in passwd group ld.so.cache nsswitch.conf; do cp "/etc/$file" "$root/etc/"; done
bind() { mkdir -p "$root$2"; mount --bind "$1" "$root$2"; [ "$3" = rw ] || mount -o "remount,bind,$3" "$root$2"; }
for part in bin sbin lib lib32 lib64 libx32; do [ ! -L "/$part" ] || cp -a "/$part" "$root/"; done
for part in usr bin sbin lib lib64; do [ -L "/$part" ] || [ ! -d "/$part" ] || bind "/$part" "/$part" ro; done
%s
mount -o remount,ro "$root"
exec chroot "$root" "$@"
"""


class Pod:
    """The pod of a workload; `secrets`: name → key → content; `volumes`: where those are kept that outlive it."""

    def __init__(
        self,
        workload: Mapping[str, Any],
        options: Mapping[str, str],
        secrets: Mapping[str, Mapping[str, bytes]],
        home: Path,
    ) -> None:
        self._spec, self._options, self._secrets, self.home = (
            workload["spec"]["template"]["spec"],
            options,
            secrets,
            home,
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._doors: list[socket.socket] = []
        for claim in workload["spec"].get("volumeClaimTemplates", []):
            self._claimed(claim["metadata"]["name"])

    def start(self, *reached: int) -> None:
        """Start all its containers, in a network of their own, with no way out but to the ports `reached`."""
        self._pause = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], preexec_fn=die_with_parent)
        try:
            self._wait_for_the_network()
        except BaseException:
            self._end_pause()
            raise
        for port in reached:
            self._reach(port)
        for container in self._spec["containers"]:
            self.processes[container["name"]] = self._run(container)

    def passes(self, container: str, kind: str) -> bool:
        """Whether a probe does, as the kubelet asks it; a container that has ended fails the test with its log."""
        assert self.processes[container].poll() is None, self.log(container)
        [one] = [one for one in self._spec["containers"] if one["name"] == container]
        [(how, asked)] = [(how, one[kind][how]) for how in ("httpGet", "tcpSocket") if how in one[kind]]
        [port] = [port["containerPort"] for port in one["ports"] if port["name"] == asked["port"]]
        status, _ = self.ask(f"http://127.0.0.1:{port}{asked.get('path', '/')}")
        return status == 200 if how == "httpGet" else status > 0

    def ask(self, url: str, *arguments: str) -> tuple[int, str]:
        """Status and body, asked from within the pod's network; status 0: no answer."""
        command = [*self._inside, "curl", "-s", "-m", "10", "-w", "\n%{http_code}", *arguments, url]
        body, _, status = subprocess.run(command, capture_output=True, text=True, check=False).stdout.rpartition("\n")
        return int(status), body

    def _reach(self, port: int) -> None:
        """Let the pod reach a port of this machine's loopback under the same name, as it does others in a cluster."""
        made: list[socket.socket] = []
        opening = threading.Thread(
            target=lambda: made.append(self._listening(port))
        )  # only a thread changes its network
        opening.start()
        opening.join()
        self._doors += made
        threading.Thread(target=_let_through, args=(made[0], port), daemon=True).start()

    def _listening(self, port: int) -> socket.socket:
        with Path(f"/proc/{self._pause.pid}/ns/net").open("rb") as network:
            assert ctypes.CDLL(None).setns(network.fileno(), CLONE_NEWNET) == 0
        return socket.create_server(("127.0.0.1", port))

    def log(self, container: str) -> str:
        """What a container wrote."""
        return (self.home / f"{container}.log").read_text(encoding="utf-8")

    def end(self) -> dict[str, int]:
        """SIGTERM to all, SIGKILL after the grace period, as the kubelet does; their exit codes. Nothing goes on."""
        for process in self.processes.values():
            for first in self._first(process):
                os.kill(first, signal.SIGTERM)
        grace = self._spec["terminationGracePeriodSeconds"]
        try:
            return {name: process.wait(grace) for name, process in self.processes.items()}
        finally:
            self.kill()

    def kill(self) -> None:
        """All at once, and its network too; nothing happens where nothing runs."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        if self.processes:
            self._end_pause()
        self.processes.clear()

    def _end_pause(self) -> None:
        for door in self._doors:
            door.shutdown(socket.SHUT_RDWR)
            door.close()
        self._doors.clear()
        self._pause.kill()
        self._pause.wait()

    def renew(self, name: str, content: Mapping[str, bytes]) -> None:
        """Another content of a Secret, as the kubelet brings it into running containers: all at once, by a link."""
        self._secrets = {**self._secrets, name: content}
        for volume in self._spec["volumes"]:
            if "projected" in volume:
                self._project(volume)

    def _run(self, container: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        root = Path(tempfile.mkdtemp(dir=self.home, prefix=f"{container['name']}-"))
        kept = [(str(path), str(path), "ro") for path in (ROOT, Path(sys.base_prefix))]
        kept += [self._mount(mount) for mount in container["volumeMounts"]]
        script = CONTAINER % "\n".join(f"bind {shlex.join(one)}" for one in kept)
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command = [*self._inside, *apart, "sh", "-c", script, "sh", str(root), *self._privileges(container), GRIDGOV]
        with (self.home / f"{container['name']}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *container["args"]],
                env=self.environment(container),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """The image's, Kubernetes' own and the manifest's; ours says only that the disk here may be a test's."""
        image = dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV ((?:.|\\\n)+?)$(?<!\\)", DOCKERFILE, re.M))))
        links = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_PORT": "tcp://10.96.0.1:443"}
        if self._spec.get("enableServiceLinks", True):
            links |= {"GRIDGOV_SERVICE_HOST": "10.96.0.2", "GRIDGOV_PORT": "tcp://10.96.0.2:8080"}
        given = {one["name"]: self._value(one) for one in container.get("env", [])}
        own = {"PATH": os.environ["PATH"], "GRIDGOV_ALLOW_VOLATILE": "yes"}
        return {**image, **links, **self._options, **given, **own}

    def _value(self, variable: Mapping[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        asked = variable["valueFrom"]["secretKeyRef"]
        return self._secrets[asked["name"]][asked["key"]].decode()

    def _privileges(self, container: Mapping[str, Any]) -> list[str]:
        of_pod, own = self._spec["securityContext"], container["securityContext"]
        who = [f"--reuid={of_pod['runAsUser']}", f"--regid={of_pod['runAsGroup']}", f"--groups={of_pod['fsGroup']}"]
        assert own["capabilities"]["drop"] == ["ALL"]
        assert own["readOnlyRootFilesystem"]
        # another user no longer dies with its parent, so it is said again
        return ["setpriv", *who, "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--pdeathsig=KILL"]

    def _mount(self, mount: Mapping[str, Any]) -> tuple[str, str, str]:
        source = self.home / "volumes" / mount["name"]
        for volume in self._spec["volumes"]:
            if volume["name"] == mount["name"] and "projected" in volume:
                self._project(volume)
            elif volume["name"] == mount["name"] and "emptyDir" in volume:
                source.mkdir(parents=True, exist_ok=True)
                source.chmod(0o777)
        return str(source), mount["mountPath"], "ro" if mount.get("readOnly") else "rw"

    def _claimed(self, name: str) -> None:
        """A volume as an ext4 disk comes, after the kubelet has given it to the pod's group."""
        volume = self.home / "volumes" / name
        (volume / "lost+found").mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(volume, 0, self._spec["securityContext"]["fsGroup"])
        volume.chmod(0o2775)

    def _project(self, volume: Mapping[str, Any]) -> None:
        """`..data` leads to the directory of this moment; what is mounted leads through it."""
        place = self.home / "volumes" / volume["name"]
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        moment = Path(tempfile.mkdtemp(dir=place, prefix="..20"))
        moment.chmod(0o755)
        for source in volume["projected"]["sources"]:
            for item in source["secret"]["items"]:
                path = moment / item["path"]
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(self._secrets[source["secret"]["name"]][item["key"]])
                path.chmod(volume["projected"]["defaultMode"])
                os.chown(path, 0, self._spec["securityContext"]["fsGroup"])
        (place / "..new").symlink_to(moment.name)
        (place / "..new").rename(place / "..data")
        for path in moment.iterdir():
            if not (place / path.name).is_symlink():
                (place / path.name).symlink_to(Path("..data", path.name))

    def _first(self, process: subprocess.Popen[bytes]) -> list[int]:
        """The container's first process, as this machine numbers it: the child of `unshare`; none once it has ended."""
        if process.poll() is not None:
            return []
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._pause.pid}/ns/net"]

    def _wait_for_the_network(self) -> None:
        own, ours = Path(f"/proc/{self._pause.pid}/ns/net"), Path("/proc/self/ns/net").stat().st_ino
        while own.stat().st_ino == ours:
            assert self._pause.poll() is None, "no network namespace: it takes root"
        subprocess.run([*self._inside, sys.executable, "-c", LOOPBACK_UP], check=True)


def _let_through(door: socket.socket, port: int) -> None:
    while True:
        try:
            inside, _ = door.accept()
        except OSError:  # it is closed
            return
        outside = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=_join, args=(inside, outside), daemon=True).start()


def _join(inside: socket.socket, outside: socket.socket) -> None:
    with inside, outside:
        back = threading.Thread(target=_pass_on, args=(outside, inside), daemon=True)
        back.start()
        _pass_on(inside, outside)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
