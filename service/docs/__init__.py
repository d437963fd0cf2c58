"""`/openapi.json` and `/docs`: the published contract, with everything the page needs on board."""

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, request, send_from_directory

ROUTES = ("/openapi.json", "/docs", "/docs/assets/<path:filename>")

ASSETS = Path(__file__).parent / "assets"

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

    @docs.get("/openapi.json")
    def document() -> Response:
        return _confined(Response(openapi, content_type="application/json"))

    @docs.get("/docs")
    def page() -> Response:
        return asset("docs.html")

    @docs.get("/docs/assets/<path:filename>")
    def asset(filename: str) -> Response:
        whole = send_from_directory(ASSETS, filename, conditional=False)
        whole.make_conditional(request.environ)  # "not changed" is told, but no ranges are served
        return _confined(whole)

    return docs


def _confined(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
