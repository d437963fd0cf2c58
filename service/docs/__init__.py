"""`/openapi.json`, `/docs` and the guide below it: the published contract and how to use it, with all on board."""

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, abort, request, send_from_directory

ROUTES = ("/openapi.json", "/docs", "/docs/assets/<path:filename>", "/docs/<language>/<path:filename>")

ASSETS = Path(__file__).parent / "assets"
SITE = Path(__file__).parent / "site"  # built by `make docs`, which every target that needs it does; in wheel and image
LANGUAGES = ("zh", "en")

# `data:` are pictures inside the style sheet. Nothing else may come from anywhere but here, or go anywhere but here.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def blueprint() -> Blueprint:
    """The routes of the documentation; open to anybody who reaches the API."""
    docs = Blueprint("docs", __name__)
    openapi = files("schemas.generated").joinpath("openapi.json").read_bytes()
    policy_of_guide = f"{POLICY}; script-src 'self' {_inline_scripts(SITE)}".rstrip()

    @docs.get("/openapi.json")
    def document() -> Response:
        return _confined(Response(openapi, content_type="application/json"))

    @docs.get("/docs")
    def page() -> Response:
        return asset("docs.html")

    @docs.get("/docs/assets/<path:filename>")
    def asset(filename: str) -> Response:
        return _file(ASSETS, filename)

    @docs.get("/docs/<language>/<path:filename>")
    def guide(language: str, filename: str) -> Response:
        if language not in LANGUAGES:
            abort(404)
        return _file(SITE / language, filename, policy_of_guide)

    return docs


def _file(directory: Path, filename: str, policy: str = POLICY) -> Response:
    whole = send_from_directory(directory, filename, conditional=False)
    whole.make_conditional(request.environ)  # "not changed" is told, but no ranges are served
    return _confined(whole, policy)


def _confined(response: Response, policy: str = POLICY) -> Response:
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _inline_scripts(site: Path) -> str:
    """The few scripts that stand in the guide's pages themselves, by their hashes: no other may run."""
    pages = (page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    scripts = {script for page in pages for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)}
    digests = sorted(base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
