"""An application: its modules, routes and settings, before anything runs. Pure.

Registration raises `ConfigurationError` for what cannot work, and names the place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, TypeVar, final

from .dispatch.function import FunctionModule, WebSocketHandler
from .dispatch.handlers import H, Handler, Loop, check_arity, check_loop, is_blocking
from .dispatch.http import HttpRoute
from .dispatch.module import Module, SessionModule
from .dispatch.parsers import Kinds, Parser
from .dispatch.views import WebSocketView, new_view_module
from .errors import ConfigurationError
from .limits import Limits
from .routing.paths import Router
from .sessions.ids import FD_MAX, Policy, new_fds
from .sessions.positions import History
from .sessions.stages import Stages
from .sessions.users import SECOND_SESSION, SecondSession
from .wire.deflate import Deflate
from .wire.engines import ENGINES, EngineName
from .wire.forwarded import TrustedProxies
from .wire.handshake import Origins, check_origins

S = TypeVar("S")
W = TypeVar("W", bound=WebSocketHandler)
V = TypeVar("V", bound=type[WebSocketView])


@final
class App:
    """What a hub, and so a server, runs.

    `limits` are all the bounds. `origins` says which web pages may connect: None for those of
    the same host (and clients that send no Origin), a list of origins, or "*". `deflate` are the
    settings of permessage-deflate, None for none. `framing` is "wireroom" or "wsproto".
    fds run from 1 to `fd_max` by `fd_policy` ("rising" or "lowest"). `second_session` says what
    becomes of another session of the same user: "allow", "replace" (the old one is closed with
    4001) or "reject" (the new one is refused with 409). `trusted_proxies` are the addresses and
    networks ("10.0.0.0/8", "::1") whose X-Forwarded-For and X-Forwarded-Proto are believed,
    "unix" for all peers of a Unix socket. With `proxy_protocol`, every connection has to come
    from one of them and to begin with a PROXY header (version 1 or 2).
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        origins: Origins = None,
        deflate: Deflate | None = Deflate(),  # noqa: B008 - immutable
        framing: EngineName = "wireroom",
        fd_max: int = FD_MAX,
        fd_policy: Policy = "rising",
        second_session: SecondSession = "allow",
        trusted_proxies: Sequence[str] = (),
        proxy_protocol: bool = False,
    ) -> None:
        if framing not in ENGINES:
            raise ConfigurationError("framing", f"must be one of {', '.join(ENGINES)}")
        check_origins("origins", origins)
        new_fds(fd_policy, fd_max)
        if second_session not in SECOND_SESSION:
            raise ConfigurationError(
                "second_session", f"must be one of {', '.join(SECOND_SESSION)}"
            )
        self.trusted_proxies = TrustedProxies(trusted_proxies)
        if not isinstance(proxy_protocol, bool):
            raise ConfigurationError("proxy_protocol", f"must be a bool, not {proxy_protocol!r}")
        if proxy_protocol and not self.trusted_proxies:
            raise ConfigurationError(
                "trusted_proxies", "must name those who send PROXY headers, for proxy_protocol"
            )
        self.proxy_protocol = proxy_protocol
        self.limits = limits or Limits()
        self.origins = origins
        self.deflate = deflate
        self.framing = framing
        self.fd_max = fd_max
        self.fd_policy = fd_policy
        self.second_session = second_session
        self.modules: Router[SessionModule] = Router()
        self.routes: Router[HttpRoute] = Router()
        self.services: dict[Any, Callable[[], object]] = {}
        self.periodic: list[tuple[float, Handler]] = []

    def module(
        self,
        path: str,
        *,
        subprotocols: Sequence[str] = (),
        origins: Origins = None,
        kinds: Kinds = "any",
        parser: Parser | None = None,
        presence: bool = False,
        history: History | None = None,
        stages: Stages | None = None,
        messages: Any = None,
    ) -> Module:
        """A module for a path pattern; see `Module`, and `routing.paths` for patterns."""
        module = Module(
            path,
            subprotocols=subprotocols,
            origins=origins,
            kinds=kinds,
            parser=parser,
            presence=presence,
            history=history,
            stages=stages,
            messages=messages,
        )
        self.add(module)
        return module

    def add(self, module: Module) -> None:
        """Register a module that was made elsewhere."""
        self.modules.add(module.path, module)

    def websocket(
        self, path: str, *, subprotocols: Sequence[str] = (), origins: Origins = None
    ) -> Callable[[W], W]:
        """Register an `async def` function for the connections of a path; see `WebSocket`."""

        def register(handler: W) -> W:
            module = FunctionModule(path, handler, subprotocols=subprotocols, origins=origins)
            self.modules.add(path, module)
            return handler

        return register

    def view(
        self, path: str, *, subprotocols: Sequence[str] = (), origins: Origins = None
    ) -> Callable[[V], V]:
        """Register a class for the connections of a path; see `WebSocketView`."""

        def register(view: V) -> V:
            module = new_view_module(path, view, subprotocols=subprotocols, origins=origins)
            self.modules.add(path, module)
            return view

        return register

    def http(self, path: str) -> Callable[[H], H]:
        """Register a handler for plain GET and HEAD requests; see `HttpRoute`."""

        def register(handler: H) -> H:
            self.routes.add(path, HttpRoute(path, handler))
            return handler

        return register

    def provide(self, service: type[S], factory: Callable[[], S]) -> None:
        """Give `service` to handlers that have a parameter of that type.

        `factory` is called once a hub, at its start. Providing again overrides, as tests do.
        """
        self.services[service] = factory

    def every(self, seconds: float) -> Callable[[H], H]:
        """Register `(hub)`, `def` or `async def`, to be called every so many seconds by the
        hub's clock, for the first time that long after the start, and never twice at a time."""
        if not 0 < seconds < inf:
            raise ConfigurationError("every", f"must be a number of seconds, not {seconds!r}")

        def register(handler: H) -> H:
            check_arity(handler, f"every {seconds:g} s:", ("hub",))
            self.periodic.append((seconds, handler))
            return handler

        return register

    @property
    def has_blocking_handlers(self) -> bool:
        """Whether any handler is marked with `blocking`, and so runs in a thread."""
        return any(map(is_blocking, self._handlers()))

    def _handlers(self) -> list[Handler]:
        handlers = [route.handler for _, route in self.routes]
        handlers += [handler for _, handler in self.periodic]
        for _, module in self.modules:
            handlers += module.handlers
        return handlers

    def check_loop(self, loop: Loop | None) -> None:
        """Raises `ConfigurationError` if a handler requires (`requires_loop`) another loop than
        this, which the transport runs; None is for a transport of threads, without one."""
        for handler in self._handlers():
            check_loop(handler, loop)

    def check(self) -> None:
        """Raises `ConfigurationError` for what only shows once everything is registered."""
        for _, module in self.modules:
            module.check()
