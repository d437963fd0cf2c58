"""Requests on the loop: who waits gives way, whatever for; who only reads does not stop who posts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from schemas.catalogue import Catalogue
from service.gate import Gate
from service.intake.accept import Intake
from service.intake.keys import LOCAL
from service.intake.loop import Environ, Gates, Loop
from service.ports import Conflict, Message, Receipt, State
from tests.metrics import for_web

ROOT = Path(__file__).parents[2]

PATIENCE = 20.0


class Headers(list[tuple[str, str]]):
    def items(self) -> list[tuple[str, str]]:
        return self


@dataclass
class Scope:
    method: str = "POST"
    path: str = "/"
    query_string: str = ""
    http_version: str = "1.1"
    scheme: str = "http"
    client: str = "127.0.0.1:5555"
    authority: str | None = None
    headers: Headers = field(default_factory=Headers)


class BrokeOff(RuntimeError):
    """As the server raises it."""


class Exchange:
    """One client: sends `pieces` (None: when `more` is set; an exception: it breaks off), keeps its answer."""

    def __init__(self, *pieces: bytes | BrokeOff | None) -> None:
        self.pieces, self.more = list(pieces), asyncio.Event()
        self.answer: tuple[int, bytes] | None = None

    async def __call__(self) -> bytes:
        return b"".join([piece async for piece in self._sent()])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._sent():
                yield piece
        except BrokeOff:
            yield b""  # as the server tells it

    async def _sent(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if piece is None:
                await self.more.wait()
            elif isinstance(piece, BrokeOff):
                raise piece
            else:
                yield piece

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        assert self.answer is None
        self.answer = status, body


def answering(view: Callable[[Environ], bytes]) -> Callable[[Environ, Callable[..., Any]], Iterable[bytes]]:
    def wsgi(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        body = view(environ)
        start("202 Accepted", [])
        return [body]

    return wsgi


def announced(length: int) -> Scope:
    return Scope(headers=Headers([("content-length", str(length))]))


def open_all(gates: list[Gate]) -> None:
    for gate in gates:
        gate.open()


def reads(size: int) -> Loop:
    return Loop(answering(lambda environ: environ["wsgi.input"].read(size)), threads=2)


def run(wanted: Any) -> Any:
    return asyncio.run(asyncio.wait_for(wanted, PATIENCE))


async def answer(loop: Loop, scope: Scope, exchange: Exchange) -> tuple[int, bytes] | None:
    await loop.__rsgi__(scope, exchange)
    return exchange.answer


@pytest.mark.parametrize("scope", [announced(10), announced(100), Scope()], ids=["whole", "too long", "unannounced"])
def test_a_body_is_read_up_to_what_is_asked_for(scope: Scope) -> None:
    assert run(answer(reads(12), scope, Exchange(b"01234", b"", b"56789"))) == (202, b"0123456789")
    assert run(answer(reads(7), scope, Exchange(b"01234", b"56789"))) == (202, b"0123456")


def test_a_body_is_read_piece_by_piece_without_losing_any() -> None:
    view = lambda environ: b"|".join(environ["wsgi.input"].read(4) for _ in range(4))  # noqa: E731 - as short as it is

    assert run(answer(Loop(answering(view), threads=1), Scope(), Exchange(b"01234", b"56789"))) == (
        202,
        b"0123|4567|89|",
    )


@pytest.mark.parametrize("scope", [announced(10), Scope()], ids=["announced", "unannounced"])
def test_a_body_that_breaks_off_just_ends(scope: Scope) -> None:
    [(status, body)] = [run(answer(reads(12), scope, Exchange(b"01234", BrokeOff())))]

    assert status == 202
    assert body in {b"", b"01234"}


def test_who_waits_for_a_body_lets_others_go_on() -> None:
    async def both() -> None:
        loop, slow, quick = reads(12), Exchange(b"01234", None), Exchange(b"quick")
        first = asyncio.create_task(loop.__rsgi__(announced(10), slow))
        assert await answer(loop, announced(5), quick) == (202, b"quick")
        assert slow.answer is None
        slow.more.set()
        await first
        assert slow.answer == (202, b"01234")

    run(both())


def test_who_waits_at_a_gate_lets_others_go_on_and_all_that_are_opened_are_answered() -> None:
    gates = Gates()
    waiting: list[Gate] = []

    def view(environ: Environ) -> bytes:
        if environ["PATH_INFO"] == "/through":
            return b"through"
        gate = gates()
        waiting.append(gate)
        return str(gate.wait(PATIENCE)).encode()

    async def all_of_them() -> None:
        loop = Loop(answering(view), threads=1)
        exchanges = [Exchange() for _ in range(20)]
        tasks = [asyncio.create_task(loop.__rsgi__(Scope(), exchange)) for exchange in exchanges]
        await asyncio.sleep(0)
        assert await answer(loop, Scope(path="/through"), Exchange()) == (202, b"through")
        assert all(exchange.answer is None for exchange in exchanges)
        opener = threading.Thread(target=open_all, args=[waiting])
        opener.start()
        await asyncio.gather(*tasks)
        opener.join()
        assert [exchange.answer for exchange in exchanges] == [(202, b"True")] * 20

    run(all_of_them())


def test_a_gate_that_nobody_opens_is_left_in_time_and_may_be_opened_late() -> None:
    gates = Gates()
    made: list[Gate] = []

    def view(_: Environ) -> bytes:
        made.append(gates())
        return str(made[0].wait(0.01)).encode()

    async def late() -> None:
        loop = Loop(answering(view), threads=1)
        assert await answer(loop, Scope(), Exchange()) == (202, b"False")
        made[0].open()
        made[0].open()
        await asyncio.sleep(0)

    run(late())


def test_who_gives_way_goes_on_after_the_others() -> None:
    gates, seen = Gates(), list[str]()

    def view(environ: Environ) -> bytes:
        for step in range(3):
            seen.append(f"{environ['PATH_INFO']}{step}")
            gates.give_way()
        return b""

    async def both() -> None:
        loop = Loop(answering(view), threads=1)
        await asyncio.gather(*(loop.__rsgi__(Scope(path=path), Exchange()) for path in "ab"))

    run(both())
    view({"PATH_INFO": "c"})  # where there is no loop there is nobody to give way to

    assert seen == ["a0", "b0", "a1", "b1", "a2", "b2", "c0", "c1", "c2"]


def test_a_large_batch_lets_others_have_their_turns() -> None:
    turns: list[int] = []
    answered: list[Message] = []

    class Journal:
        def submit(self, messages: Sequence[Message]) -> list[Receipt | Conflict]:
            answered.extend(messages)
            return [Receipt(m.report_id, m.case_id, m.topic, m.received_at, State.PENDING) for m in messages]

    catalogue = Catalogue.load()
    intake = Intake(
        catalogue,
        Journal(),
        for_web(CollectorRegistry(), catalogue),
        clock=lambda: 1_900_000_000_000,
        accept_unknown_minor=False,
        give_way=lambda: turns.append(len(answered)),
    )
    report = orjson.loads((ROOT / "schemas" / "examples" / "valid" / "dispatched-local-time.json").read_bytes())

    answers = intake.accept(LOCAL, [report | {"report_id": f"r-{number}"} for number in range(250)])

    assert [answer.report_id for answer in answers] == [f"r-{number}" for number in range(250)]
    assert turns == [0, 0]  # and all of it is written together


def test_what_brings_no_body_waits_on_a_thread() -> None:
    """Also at a gate, and for a body that it has after all."""
    gates, opened = Gates(), threading.Event()

    def view(environ: Environ) -> bytes:
        gate = gates()
        threading.Timer(0.01, gate.open).start()
        assert gate.wait(PATIENCE)
        body: bytes = environ["wsgi.input"].read(3)
        assert opened.wait(PATIENCE)
        return body + threading.current_thread().name[:4].encode()

    async def reading() -> None:
        loop, exchange = Loop(answering(view), threads=1), Exchange(b"abc")
        reader = asyncio.create_task(loop.__rsgi__(Scope(method="GET"), exchange))
        assert await answer(reads(5), announced(5), Exchange(b"quick")) == (202, b"quick")
        opened.set()
        await reader
        assert exchange.answer == (202, b"abcread")

    run(reading())


def test_the_environment_is_what_wsgi_says() -> None:
    seen: list[Environ] = []
    scope = Scope(
        path="/v1/中",
        query_string="a=1",
        http_version="2",
        client="[::1]:5555",
        authority="gridgov.example",
        headers=Headers([("x-a", "1"), ("x-a", "2"), ("content-type", "a/b"), ("cookie", "c")]),
    )
    loop = Loop(answering(lambda environ: seen.append(environ) or b""), threads=1)  # type: ignore[func-returns-value]

    run(answer(loop, scope, Exchange()))

    [environ] = seen
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/v1/中"
    assert environ["HTTP_HOST"] == "gridgov.example"
    assert environ["HTTP_X_A"] == "1,2"
    assert environ["CONTENT_TYPE"] == "a/b"
    assert environ["REMOTE_ADDR"] == "::1"
    assert environ["SERVER_PROTOCOL"] == "HTTP/2"


def test_a_named_host_is_the_host_whatever_the_request_line_says() -> None:
    seen: list[Environ] = []
    loop = Loop(answering(lambda environ: seen.append(environ) or b""), threads=1)  # type: ignore[func-returns-value]

    run(answer(loop, Scope(authority="other", headers=Headers([("host", "ours")])), Exchange()))

    assert seen[0]["HTTP_HOST"] == "ours"
