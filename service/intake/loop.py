"""The web process's one event loop: a request that posts is a greenlet on it, so that waiting costs no thread.

A thread for each request costs more than the request: at every wait Python's lock changes hands twice, and all who were
waiting for a flush want it at once. Here who waits (for the rest of a body, for the flush) gives the word to the loop,
and goes on in the same thread when its turn has come. The application stays an ordinary WSGI one; it meets this only as
`wsgi.input`, and as the gate at which the journal's writer keeps a request.

What brings no body may wait for the disk inside a read, and so runs on a thread of a pool.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

from greenlet import getcurrent, greenlet

from service.gate import Gate, ThreadGate

Environ = dict[str, Any]  # of WSGI
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Headers = list[tuple[str, str]]

_SAME: Environ = {
    "SCRIPT_NAME": "",
    "SERVER_NAME": "gridgov",
    "SERVER_PORT": "0",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}
# On every answer. The server names itself unless somebody else is named.
_PROTECTION = (
    ("Server", "gridgov"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
_BODY = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}


class Scope(Protocol):
    """The head of a request, as RSGI gives it."""

    method: str
    path: str
    query_string: str
    http_version: str
    scheme: str
    client: str
    authority: str | None
    headers: Any


class Exchange(Protocol):
    """Where the body of a request comes from and its answer goes, of RSGI."""

    def __call__(self) -> Awaitable[bytes]:
        """The whole body. Raises when it broke off."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body piece by piece; one that broke off just ends."""

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer, once; from any thread."""


class Loop:
    """Serves a WSGI application to a server that speaks RSGI. `threads` answer what brings no body.

    `listens` is called once the server does: from then on nobody who connects is refused.
    """

    def __init__(self, wsgi: Wsgi, *, threads: int, listens: Callable[[], object] = lambda: None) -> None:
        self._wsgi, self._threads, self._listens = wsgi, ThreadPoolExecutor(threads, "read"), listens
        self._idle: list[greenlet] = []  # each keeps the memory of its frames, which a new one gets from the kernel

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """The server calls this first; then it begins to listen, and only then the loop turns."""
        loop.call_soon(self._listens)

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        """One request, from its head to its answer."""
        environ = _environ(scope)
        loop = asyncio.get_running_loop()
        environ["wsgi.input"] = _Input(exchange, environ.get("CONTENT_LENGTH"), loop)
        if not _BODY.isdisjoint(environ) or scope.method == "POST":
            request = self._idle.pop() if self._idle else greenlet(self._answer_all)
            awaited = request.switch(environ, exchange)
            while awaited is not None:
                awaited = request.switch(await awaited)
            self._idle.append(request)
        else:
            await loop.run_in_executor(self._threads, self._answer, environ, exchange)

    def _answer_all(self, environ: Environ, exchange: Exchange) -> None:
        """One request after the other, on one greenlet: it gives the loop what to wait for, or None when it is done."""
        while True:
            self._answer(environ, exchange)
            environ, exchange = getcurrent().parent.switch(None)

    def _answer(self, environ: Environ, exchange: Exchange) -> None:
        start = _Start()
        body = b"".join(self._wsgi(environ, start))
        protect = _PROTECTION if environ["REQUEST_METHOD"] == "POST" else _missing(start.headers)
        exchange.response_bytes(start.status, [*start.headers, *protect], body)


class Gates:
    """Makes the gates at which requests wait until another thread opens them: all that are open go on in one turn."""

    def __init__(self) -> None:
        self._open: deque[asyncio.Future[bool]] = deque()
        self._called = False  # whether the loop knows that some are open

    def __call__(self) -> Gate:
        """One for the caller: on the loop it gives way to others, elsewhere its thread stops."""
        return ThreadGate() if getcurrent().parent is None else _LoopGate(self)

    def give_way(self) -> None:
        """Let others on the loop have a turn, where there is one."""
        if (parent := getcurrent().parent) is not None:
            parent.switch(asyncio.sleep(0))

    def open(self, future: "asyncio.Future[bool]") -> None:
        """See to it that the loop lets one go on. From any thread."""
        self._open.append(future)
        if not self._called:
            self._called = True
            future.get_loop().call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        self._called = False
        while self._open:
            _settle(self._open.popleft(), opened=True)


class _LoopGate:
    __slots__ = ("_future", "_gates")

    def __init__(self, gates: Gates) -> None:
        self._gates = gates
        self._future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def wait(self, seconds: float) -> bool:
        timer = self._future.get_loop().call_later(seconds, _settle, self._future)
        opened: bool = getcurrent().parent.switch(self._future)
        timer.cancel()
        return opened

    def open(self) -> None:
        self._gates.open(self._future)


class _Input:
    """`wsgi.input`: waits for what has not come yet as its caller may, on the loop or on a thread."""

    def __init__(self, exchange: Exchange, announced: str | None, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange, self._announced, self._loop = exchange, announced, loop
        self._pieces: AsyncIterator[bytes] | None = None
        self._left = b""

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer when no more come, also because the connection broke off."""
        parent = getcurrent().parent
        if parent is None:
            return asyncio.run_coroutine_threadsafe(self._read(size), self._loop).result()
        found: bytes = parent.switch(self._read(size))
        return found

    async def _read(self, size: int) -> bytes:
        if self._pieces is None:
            if self._announced is not None and int(self._announced) <= size:
                return await self._whole()
            self._pieces = aiter(self._exchange)
        found = [self._left]
        length = len(self._left)
        while length < size:
            try:
                piece = await anext(self._pieces)
            except StopAsyncIteration:
                break
            found.append(piece)
            length += len(piece)
        whole = b"".join(found)
        self._left = whole[size:]
        return whole[:size]

    async def _whole(self) -> bytes:
        try:
            return await self._exchange()
        except RuntimeError:  # of RSGI: it broke off
            return b""


class _Start:
    """WSGI's `start_response`."""

    __slots__ = ("headers", "status")

    def __call__(self, status: str, headers: Headers, exc_info: object = None) -> None:  # noqa: ARG002 - of WSGI
        self.status, self.headers = int(status[:3]), headers


def _missing(headers: Headers) -> list[tuple[str, str]]:
    """What an answer does not say itself: the documentation may be kept for a while."""
    given = {name for name, _ in headers}
    return [(name, value) for name, value in _PROTECTION if name not in given]


def _settle(future: "asyncio.Future[bool]", *, opened: bool = False) -> None:
    if not future.done():
        future.set_result(opened)


def _environ(scope: Scope) -> Environ:
    """The WSGI environment; a header given several times has its values in one, with commas between."""
    path = scope.path
    environ = _SAME | {
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": path if path.isascii() else path.encode().decode("latin-1"),  # as PEP 3333 wants it
        "QUERY_STRING": scope.query_string,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.url_scheme": scope.scheme,
    }
    for name, value in scope.headers.items():
        key = _key(name)
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    if "HTTP_HOST" not in environ and scope.authority is not None:  # HTTP/2
        environ["HTTP_HOST"] = scope.authority
    return environ


@lru_cache(256)
def _key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if name in ("content-type", "content-length") else f"HTTP_{key}"
