"""The page at /docs brings all it needs, and what was taken from others is what it says it is."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service import docs

DIRECTORY = Path(docs.__file__).parent
ASSETS = DIRECTORY / "assets"
VENDORED = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (DIRECTORY / "VENDORED.md").read_text()))


@pytest.fixture
def client() -> FlaskClient:
    app = Flask("docs", static_folder=None)
    app.register_blueprint(docs.blueprint())
    return app.test_client()


def test_vendored_files_are_unchanged() -> None:
    assert len(VENDORED) == 3
    for name, digest in VENDORED.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest


def test_everything_the_page_asks_for_is_on_board(client: FlaskClient) -> None:
    with client.get("/docs") as page:
        asked = re.findall(r'(?:src|href)="([^"]*)"', page.get_data(as_text=True))
    files = [name for name in asked if not name.startswith("data:")]
    assert len(files) == 8
    for name in files:
        with client.get(f"/{name}") as answer:  # relative to /docs, so also below a proxy's prefix
            assert answer.status_code == 200, name


def test_the_page_may_load_nothing_from_elsewhere(client: FlaskClient) -> None:
    for path in ("/docs", "/docs/assets/docs.js", "/openapi.json"):
        with client.get(path) as answer:
            rules = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
            assert rules.pop("img-src") == "'self' data:"
            assert rules.pop("default-src") == "'self'"
            assert set(rules.values()) == {"'none'"}
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/docs", "/docs/assets/docs.js"])
def test_a_part_of_a_file_is_not_served(client: FlaskClient, path: str) -> None:
    with client.get(path, headers={"Range": "bytes=99999999-"}) as answer:
        assert answer.status_code == 200


def test_a_file_is_sent_again_only_when_it_changed(client: FlaskClient) -> None:
    with (
        client.get("/docs/assets/docs.js") as first,
        client.get("/docs/assets/docs.js", headers={"If-None-Match": first.headers["ETag"]}) as second,
    ):
        assert (first.status_code, second.status_code) == (200, 304)


@pytest.mark.parametrize("name", ["../__init__.py", "%2e%2e/__init__.py", "..%2f__init__.py", "none.js", ""])
def test_nothing_else_is_served(client: FlaskClient, name: str) -> None:
    assert client.get(f"/docs/assets/{name}").status_code == 404
