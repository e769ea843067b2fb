"""Handshakes, refusals, and plain HTTP beside them."""

from __future__ import annotations

import msgspec
import pytest

from wireroom.core import Accept, App, Hub, Limits, Reject, Request, Response, Session, WebSocket

from .behaviours import Behaviours, Server, Told, needs
from .client import TEXT, Client, Refused, frame
from .harness import Feature


def _described(request: Request) -> dict[str, object]:
    return {
        "name": request.path_params["name"],
        "number": request.path_params["number"],
        "query": request.query_params.get_all("q"),
        "cookie": request.cookies.get("c"),
        "header": request.headers.get("x-test"),
    }


def _app(limits: Limits | None = None) -> App:
    """Functions and modules that accept, and that refuse in every way."""
    app = App(limits=limits)

    @app.websocket("/function/{name}/{number:int}", subprotocols=["v2", "v1"])
    async def function(ws: WebSocket) -> None:
        await ws.sleep(0.001)
        await ws.accept("v1", headers={"X-Greeting": "hello"})
        await ws.send_json(_described(ws.request))
        await ws.receive()

    module = app.module("/module/{name}/{number:int}", subprotocols=["v2", "v1"])

    @module.on_handshake
    def decide(request: Request) -> Accept:
        return Accept(headers={"X-Greeting": "hello"}, user="ann", state={"seen": 1})

    @module.on_open
    def opened(session: Session) -> None:
        assert (session.user, session.state.seen) == ("ann", 1)
        session.send(_described(session.handshake))

    later = app.module("/later/{name}/{number:int}", subprotocols=["v1"])

    @later.on_handshake
    async def decide_later(request: Request) -> Accept:
        return Accept(headers={"X-Greeting": "hello"})

    @later.on_open
    async def opened_later(session: Session) -> None:
        await session.sleep(0.001)
        await session.send(_described(session.handshake))

    @app.websocket("/refused/function")
    async def refuse(ws: WebSocket) -> None:
        await ws.reject(451, "not here\n", {"X-Why": "law"})

    @app.module("/refused/module").on_handshake
    def refuse_inline(request: Request) -> Reject:
        return Reject(451, "not here\n", {"X-Why": "law"})

    @app.module("/refused/later").on_handshake
    async def refuse_later(request: Request) -> Reject:
        return Reject(451, "not here\n", {"X-Why": "law"})

    @app.websocket("/undecided")
    async def undecided(ws: WebSocket) -> None:
        return

    @app.http("/healthz")
    def healthz(request: Request) -> dict[str, str]:
        return {"status": "ok"}

    @app.http("/page/{name}")
    async def page(request: Request) -> Response:
        return Response(
            203, f"<p>{request.path_params['name']}", {"X-Page": "yes"}, "text/html; charset=utf-8"
        )

    @app.http("/empty")
    def empty(request: Request) -> None:
        return None

    return app


def refusal(client: Client, target: str, **options: object) -> Refused:
    """The refusal that a handshake has to get."""
    with client, pytest.raises(Refused) as refused:
        client.handshake(target, **options)
    return refused.value


class Handshakes(Behaviours):
    """Handshakes and HTTP."""

    @pytest.mark.parametrize("kind", ["function", "module", "later"])
    def test_accepts_with_subprotocol_headers_and_path_parameters(
        self, server: Server, kind: str
    ) -> None:
        server.start(_app())
        client = server.open(
            f"/{kind}/gr%C3%BC%C3%9Fe/17?q=a&q=b%20c",
            subprotocols=["v0", "v1"],
            headers=[("Cookie", "c=1; d=2"), ("X-Test", "yes")],
        )
        assert client.accepted.subprotocol == "v1"
        assert client.accepted_headers["x-greeting"] == "hello"
        assert msgspec.json.decode(client.receive()) == {
            "name": "grüße",
            "number": 17,
            "query": ["a", "b c"],
            "cookie": "1",
            "header": "yes",
        }

    def test_a_handshake_may_come_byte_by_byte(self, server: Server) -> None:
        server.start(_app())
        client = server.connect()
        request = client.upgrade("/module/a/1", subprotocols=["v1"])
        early = frame(TEXT, b"early") if server.can(Feature.EARLY_FRAMES) else b""
        client.write(request + early, piece_bytes=1)
        client.await_acceptance()
        assert msgspec.json.decode(client.receive())["name"] == "a"

    @pytest.mark.parametrize("kind", ["function", "module", "later"])
    @needs(Feature.REJECTION)
    def test_refuses_with_status_headers_and_body(self, server: Server, kind: str) -> None:
        server.start(_app())
        response = refusal(server.connect(), f"/refused/{kind}").response
        assert (response.status, response.headers["x-why"]) == (451, "law")
        assert response.body == b"not here\n"
        assert server.wait_idle().sessions_total == 0

    @needs(Feature.REJECTION)
    def test_refuses_a_path_with_nothing_at_it(self, server: Server) -> None:
        server.start(_app())
        for target in ("/nowhere", "/module/a/not-a-number", "/module/a/1/"):
            assert refusal(server.connect(), target).response.status == 404
        assert server.wait_idle().sessions_total == 0

    def test_refuses_what_the_function_does_not_accept(self, server: Server) -> None:
        server.start(_app())
        assert refusal(server.connect(), "/undecided").response.status == 403

    def test_refuses_pages_of_other_origins(self, server: Server) -> None:
        server.start(_app())
        foreign = [("Origin", "http://evil.example")]
        assert refusal(server.connect(), "/module/a/1", headers=foreign).response.status == 403
        own = server.open("/module/a/1", headers=[("Origin", "http://localhost")])
        assert msgspec.json.decode(own.receive())["name"] == "a"

    @needs(Feature.CAPACITY)
    def test_refuses_with_503_when_it_is_full(self, server: Server) -> None:
        server.start(_app(Limits(connections_max=1)))
        only = server.open("/module/a/1")

        def ask(hub: Hub) -> Client:
            """While the server takes nobody: who is refused has not long to ask."""
            client = server.connect()
            client.write(client.upgrade("/module/a/1"))
            return client

        with server.call(ask) as late, pytest.raises(Refused) as refused:
            late.await_acceptance()
        response = refused.value.response
        assert (response.status, response.headers["retry-after"]) == (503, "5")
        only.close()
        assert server.wait_idle().connections_refused == 1
        server.open("/module/a/1")

    def test_a_peer_may_leave_before_it_is_answered(self, server: Server) -> None:
        app = App(limits=Limits(close_timeout_s=0.1))
        told: Told[str] = Told()

        @app.websocket("/")
        async def ponder(ws: WebSocket) -> None:
            told.put("asked")
            try:
                await ws.sleep(3600)
            except BaseException:
                told.put("given up")
                raise

        server.start(app)
        client = server.connect()
        client.write(client.upgrade("/"))
        assert told.next("the handler is asked") == "asked"
        client.reset()
        assert told.next("the handler is cancelled") == "given up"
        server.wait_idle()

    # -- plain HTTP ---------------------------------------------------------------------------

    @needs(Feature.HTTP)
    def test_answers_plain_requests(self, server: Server) -> None:
        server.start(_app())
        health = server.connect().request("/healthz")
        assert (health.status, health.body) == (200, b'{"status":"ok"}')
        assert health.headers["content-type"] == "application/json"
        page = server.connect().request("/page/a%2Fb")
        assert (page.status, page.headers["x-page"], page.body) == (203, "yes", b"<p>a/b")
        head = server.connect().request("/page/abc", "HEAD")
        assert (head.status, head.headers["content-length"], head.body) == (203, "6", b"")
        assert server.connect().request("/empty").status == 204

    @needs(Feature.HTTP)
    def test_refuses_plain_requests_that_it_has_no_answer_to(self, server: Server) -> None:
        server.start(_app())
        assert server.connect().request("/nowhere").status == 404
        posted = server.connect().request("/healthz", "POST")
        assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD")
        plain = server.connect().request("/undecided")
        assert (plain.status, plain.headers["upgrade"]) == (426, "websocket")

    @needs(Feature.HEADS)
    def test_answers_requests_of_one_connection_in_order(self, server: Server) -> None:
        server.start(_app())
        client = server.connect()
        client.write(
            b"GET /page/1 HTTP/1.1\r\nHost: a\r\n\r\n"
            b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
            b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answers = client.read_to_end()
        assert answers.count(b"HTTP/1.1 ") == 3
        assert answers.index(b"<p>1") < answers.index(b"ok") < answers.index(b" 404 ")

    @needs(Feature.HEADS)
    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"this is no HTTP\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        ],
        ids=["none", "long"],
    )
    def test_refuses_a_bad_head_and_ends_the_connection(
        self, server: Server, head: bytes, status: int
    ) -> None:
        server.start(_app())
        client = server.connect()
        client.write(head)
        assert client.read_to_end().startswith(b"HTTP/1.1 %d " % status)
        client.drop()
        assert server.wait_idle().requests_refused == 1
