"""The gate of the API: who is let in, from where, for what, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NoReturn

from flask import Flask, Response, request

from schemas.reasons import Reason
from service.intake import signing
from service.intake.edge import ASKED, FORWARDED, LET_IN, Environ, Refusal, local
from service.intake.keys import LOCAL, Keys, Principal, Role
from service.intake.limits import Buckets, Failures, Policy, Shares, policy_of
from service.intake.scopes import Network, inside

SHARE_BYTES = 64 << 20  # of bodies that one sender may have under way
LARGEST = 2 << 20  # of one body: who announces more is refused, who announces nothing may send so much
REFUSALS = Policy(100, 250)  # of one sender a second, and how many wait for that; what is more is answered at once
STRANGERS = ""
CLIENT = "gridgov.client"  # in the environ, for the audit log: where a request comes from, if not from its peer
_QUOTA, _SHARE = "gridgov.quota", "gridgov.share"  # in the environ


class Gate:
    """Lets in who has a key, or, while no key is configured, this machine.

    `rate`: reports a second of a sender whose key says no other. `share`: requests with a body that one sender may have
    under way. `failures`: wrong credentials a minute from one address. Who passes on requests is in `proxies`, who may
    watch the service without a key in `trusted`. `clock` gives monotonic seconds, `now` Unix ones. Of so many
    `processes` each gives its part of every limit, as none knows what the others let in.

    Who posts too often has his refusals one after the other, by `pause` (seconds), which costs nothing but his
    connections: else who does not listen would ask again at once, and each refusal costs as much as others' reports.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        rate: int = 500,
        share: int = 256,
        failures: int = 100,
        proxies: tuple[Network, ...] = (),
        trusted: tuple[Network, ...] = (),
        processes: int = 1,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], object] = lambda _: None,
    ) -> None:
        def part(limit: int) -> int:
            return max(1, limit // processes)

        self._keys, self._rate = keys, rate
        self._policy = policy_of if processes == 1 else lru_cache(1024)(lambda rate: policy_of(part(rate)))
        self._buckets, self._failures = Buckets(clock), Failures(clock, per_minute=part(failures))
        self._shares = Shares(part(share), part(SHARE_BYTES))
        self._proxies, self._trusted = proxies, trusted
        self._now, self._pause, self._refusals = now, pause, Buckets(clock)

    def caller(self, environ: Environ, role: Role | None = None) -> Principal:
        """Who is asking; with `role`, only if they have it."""
        principal = self._known(environ)
        environ[LET_IN] = True
        if role is not None and role not in principal.roles:
            raise Refusal(Reason.FORBIDDEN)
        if principal is not LOCAL:
            self._limit(environ, principal)
        return principal

    def charge(self, environ: Environ, principal: Principal, reports: int) -> None:
        """What came in one request counts as so many reports, each as if it had come by itself."""
        if principal is not LOCAL and reports > 1:
            policy = self._policy(principal.scope.rate or self._rate)
            environ[_QUOTA] = policy, self._buckets.charge(principal.name, policy, reports - 1)

    def close(self, environ: Environ, response: Response) -> None:
        """To be called with the answer of every request: where its sender stands, and that it is under way no more."""
        if (quota := environ.get(_QUOTA)) is not None:
            policy, missing = quota
            response.headers.add("RateLimit", policy.left(missing))
            response.headers.add("RateLimit-Policy", policy.told)
        if (share := environ.get(_SHARE)) is not None:
            self._shares.leave(*share)

    def guard(self, app: Flask, blueprint: str) -> None:
        """Give what a blueprint shows only to readers and to trusted networks."""
        for name, view in app.view_functions.items():
            if name.startswith(f"{blueprint}."):
                app.view_functions[name] = self._guarded(view)

    def _guarded(self, view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(**given: Any) -> Any:
            environ = request.environ
            address = self.origin(environ)
            if address is None or not inside(address, self._trusted):
                self.caller(environ, Role.READER)
            return view(**given)

        return guarded

    # ---- who ----

    def _known(self, environ: Environ) -> Principal:
        if self._proxies:
            environ[CLIENT] = self.origin(environ)
        given = environ.get("HTTP_AUTHORIZATION")
        signed = given is None and "HTTP_X_APP_KEY" in environ
        principal = self._signer(environ) if signed else self._keys.who(given)
        if principal is None and given is None and not signed and not self._keys.configured and local(environ):
            return LOCAL
        if principal is None:
            self._failed(environ, Reason.UNAUTHENTICATED)
        if principal.scope.networks and not principal.scope.admits(self.origin(environ) or ""):
            self._failed(environ, Reason.WRONG_NETWORK)
        return principal

    def _signer(self, environ: Environ) -> Principal | None:
        try:
            return self._keys.signed(signing.signer(environ, self._keys.secret_of, self._now()))
        except signing.Wrong as wrong:
            self._failed(environ, wrong.reason)

    def _failed(self, environ: Environ, reason: Reason) -> NoReturn:
        """Turn somebody away, who hears no more than that after too many of these."""
        if wait := self._failures.count(self.origin(environ) or environ.get("REMOTE_ADDR", "")):
            self._too_many(environ, STRANGERS, wait)
        raise Refusal(reason)

    def origin(self, environ: Environ) -> str | None:
        """The address a request comes from; None when it was passed on by a stranger, who may say what he likes.

        A proxy of ours adds whom it has the request from at the end of X-Forwarded-For: the last there that is none.
        """
        peer: str = environ.get("REMOTE_ADDR", "")
        if environ.keys().isdisjoint(FORWARDED):
            return peer
        if not inside(peer, self._proxies):
            return None
        passed: str = environ.get("HTTP_X_FORWARDED_FOR", "")
        for address in reversed([one.strip() for one in passed.split(",")]):
            if not inside(address, self._proxies):
                return address
        return peer

    # ---- how often ----

    def _limit(self, environ: Environ, principal: Principal) -> None:
        policy = self._policy(principal.scope.rate or self._rate)
        missing, wait = self._buckets.take(principal.name, policy)
        environ[_QUOTA] = policy, missing
        if wait:
            self._too_many(environ, principal.name, wait)
        if environ["REQUEST_METHOD"] == "POST":
            share = principal.name, _size(environ)
            if not self._shares.enter(*share):
                self._too_many(environ, principal.name)
            environ[_SHARE] = share

    def _too_many(self, environ: Environ, name: str, wait: float | None = None) -> NoReturn:
        if environ["REQUEST_METHOD"] == "POST":  # whoever posts keeps no thread
            turn, full = self._refusals.take(name, REFUSALS)
            if not full:
                self._pause(turn)
                environ[ASKED].started += turn  # his time, not ours
        raise Refusal(Reason.RATE_LIMITED, wait=wait)


def _size(environ: Environ) -> int:
    """How many bytes of a body may come."""
    length: str = environ.get("CONTENT_LENGTH", "")
    return min(int(length), LARGEST) if length.isdigit() and len(length) < 10 else LARGEST
