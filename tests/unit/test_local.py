"""Who is let in without a key: this machine, as far as a request shows where it comes from."""

from __future__ import annotations

import pytest

from service.intake.edge import local

HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8080"}
OURS = {
    "as curl asks": {},
    "by name": {"HTTP_HOST": "localhost:8080"},
    "without a port": {"HTTP_HOST": "localhost"},
    "by IPv6": {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:8080"},
    "another of its own addresses": {"REMOTE_ADDR": "127.0.0.2", "HTTP_HOST": "127.8.8.8"},
}
THEIRS = {
    "from elsewhere": {"REMOTE_ADDR": "192.0.2.7"},
    "through a proxy that keeps the host": {"HTTP_HOST": "gridgov.example.gov.cn"},
    "through one that says so": {"HTTP_VIA": "1.1 proxy"},
    "or says for whom": {"HTTP_X_FORWARDED_FOR": "192.0.2.7"},
    "or how": {"HTTP_X_FORWARDED_PROTO": "https"},
    "in the standard's words": {"HTTP_FORWARDED": "for=192.0.2.7"},
    "without a host": {"HTTP_HOST": ""},
    "with a host that only begins like ours": {"HTTP_HOST": "127.0.0.1.example.org"},
    "with two": {"HTTP_HOST": "127.0.0.1,gridgov.example.gov.cn"},
}


@pytest.mark.parametrize("seen", OURS.values(), ids=OURS)
def test_this_machine_is_let_in(seen: dict[str, str]) -> None:
    assert local(HERE | seen)


@pytest.mark.parametrize("seen", THEIRS.values(), ids=THEIRS)
def test_nobody_else_is(seen: dict[str, str]) -> None:
    assert not local(HERE | seen)
