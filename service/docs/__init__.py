"""`/openapi.json` and `/docs`: the published contract, with everything the page needs on board."""

from importlib.resources import files

from flask import Blueprint, Response

ROUTES = ("/openapi.json", "/docs", "/docs/assets/<path:filename>")

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
    docs = Blueprint("docs", __name__, static_folder="assets", static_url_path="/docs/assets")
    openapi = files("schemas.generated").joinpath("openapi.json").read_bytes()

    @docs.get("/openapi.json")
    def document() -> Response:
        return Response(openapi, content_type="application/json")

    @docs.get("/docs")
    def page() -> Response:
        return docs.send_static_file("docs.html")

    @docs.after_request
    def confined(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return docs
