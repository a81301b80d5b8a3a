"""Decide which requests a listener answers."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ..errors import RequestRefused
from ..handshake import PROOF_HEADER, proof_for
from .dashboard import PAGE_ROUTES
from .routes import add_answer_headers, error_answer

_Admission = Callable[[web.Request], None]


def make_admission(admit: _Admission) -> Any:
    """Return the middleware that admits or refuses a call, and adds the headers that every answer needs."""

    @web.middleware
    async def admission(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            admit(request)
            answer = await handler(request)
        except (RequestRefused, web.HTTPException) as error:
            answer = error_answer(error)
        add_answer_headers(answer)
        return answer

    return admission


def token_check(token: str) -> _Admission:
    """Return the check of the private listener: each call must be signed with the token."""

    def admit(request: web.Request) -> None:
        if _proof(token, request) is None:
            raise RequestRefused(401, "This listener answers to Cloud Archive's own processes only.")

    return admit


def _proof(token: str, request: web.Request) -> str | None:
    return proof_for(token, request.method, request.path, request.headers.get("Authorization", ""))


def prove_engine(token: str) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return the `on_response_prepare` handler that adds the engine's proof to the answer of each signed call."""

    async def add_proof(request: web.Request, answer: web.StreamResponse) -> None:
        proof = _proof(token, request)
        if proof is not None:
            answer.headers[PROOF_HEADER] = proof

    return add_proof


def bearer_check(token: str) -> _Admission:
    """Return the check of a public listener with a token: each call must carry it, except for the page's own files."""

    def admit(request: web.Request) -> None:
        if request.match_info.route.name in PAGE_ROUTES:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        # In any letter case: https://www.rfc-editor.org/rfc/rfc9110#section-11.1
        is_bearer = scheme.lower() == "bearer"
        given = given.lstrip(" ")  # one or more may precede it
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode()) or not is_bearer:
            raise web.HTTPUnauthorized(
                reason="This server asks for its token: send it as Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return admit


def host_check(allowed_hosts: Collection[str]) -> _Admission:
    """Return the check of a public listener without a token: it refuses a `Host` that another site may have chosen.

    This stops DNS rebinding, by which a page lets its own site's name lead to this machine; it can't do so with an
    address.

    Args:
        allowed_hosts: see `build_application`.
    """
    allowed = {name for name in map(_host_name, allowed_hosts) if name}
    accepts_any_address = bool(allowed & {"0.0.0.0", "::"})  # noqa: S104 - compared, not bound to

    def admit(request: web.Request) -> None:
        name = _host_name(request.headers.get("Host", ""))
        if name == "localhost" or name in allowed:
            return
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(name or "")
            if accepts_any_address or address.is_loopback:
                return
        raise RequestRefused(
            403,
            "This server needs no token, so it answers only under localhost or the address given to --serve. Open"
            " one of these, or set CLOUD_ARCHIVE_SERVE_TOKEN.",
        )

    return admit


def _host_name(host: str) -> str | None:
    """Return the host of `host:port`, lower case, without the brackets of an IPv6 address."""
    try:
        if host.count(":") > 1 and not host.startswith("["):
            host = f"[{host}]"  # an IPv6 address alone
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
