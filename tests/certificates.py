"""Certificates for tests, made by `openssl`: an authority of one's own and what it signs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")  # -nodes: no passphrase


@dataclass
class Authority:
    """One that signs for 127.0.0.1; a new one, of whatever name, is trusted by nobody who knew the old."""

    home: Path
    name: str

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        self.certificate, self._key = self.home / "ca.pem", self.home / "ca.key"
        _openssl("req", "-x509", *CURVE, "-days", "2", "-subj", f"/CN={self.name}", *self._out())

    def issue(self, name: str, certificate: Path, key: Path) -> None:
        """A certificate for server and client alike, whose common name is `name`, and its key (PKCS#8)."""
        extensions = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")
        signed = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-days", "2")
        out = ("-keyout", str(key), "-out", str(certificate))
        _openssl("req", "-x509", *CURVE, *signed, "-subj", f"/CN={name}", *extensions, *out)

    def _out(self) -> tuple[str, ...]:
        return ("-keyout", str(self._key), "-out", str(self.certificate))


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
