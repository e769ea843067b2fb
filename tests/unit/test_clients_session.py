"""A client's session in virtual time, against a server written by hand."""

from __future__ import annotations

import base64
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import CLOSE, PING, PONG, TEXT, close_frame, frame
from framings import keys
from heads import head, upgrade_response
from wireroom.core import (
    ClientConnection,
    ClientSession,
    Limits,
    LocalProtocolError,
    MessagePackParser,
    RefusedError,
    RemoteProtocolError,
    RequestFailedError,
    SessionClosedError,
)
from wireroom.core.clients.pending import Pending
from wireroom.core.clients.session import Operation

PARTS = [
    frame(TEXT, b"x", key=None),
    frame(TEXT, b'{"type":"reply","request_id":"c1","data":1}', key=None),
    frame(TEXT, b"x" * 500, key=None),
    frame(PING, b"p", key=None),
    frame(PONG, bytes(7) + b"\1", key=None),
    close_frame(1001, key=None),
]

WELCOME = upgrade_response(base64.b64encode(keys(16)).decode())


class Running:
    """An operation, stepped whenever what it waits for has happened, as an adapter does."""

    def __init__(self, bench: Bench, operation: Operation) -> None:
        self._bench = bench
        self._operation = operation
        self.result: Any = None
        self.error: BaseException | None = None
        self._done = False
        self._step()

    def is_done(self) -> bool:
        return self._done

    def _step(self) -> None:
        try:
            pending = self._bench.session.step(self._operation, now=self._bench.now)
        except StopIteration as stop:
            self.result, self._done = stop.value, True
        except Exception as error:
            self.error, self._done = error, True
        else:
            self._bench.ready.append((pending, self._step))

    def cancel(self) -> None:
        self._operation.close()
        self._done = True


class Bench:
    """A session, its clock, and a socket that takes everything unless `takes` is False."""

    def __init__(self, limits: Limits | None = None, **options: Any) -> None:
        self.now = 100.0
        limits = limits or Limits()
        connection = ClientConnection("ws://a", random_bytes=keys, limits=limits)
        self.session = ClientSession(connection, now=self.now, limits=limits, **options)
        self.ready: list[tuple[Pending, Any]] = []
        self.sent: list[tuple[int, bytes]] = []  # opcode and payload
        self.takes = True
        self.head = b""
        self.opening = self.run(self.session.opened())

    def run(self, operation: Operation) -> Running:
        running = Running(self, operation)
        self.drain()
        return running

    def drain(self) -> None:
        again = True
        while again:
            again = False
            if self.takes and (data := self.session.data_to_send()):
                self._keep(data)
            for pending, step in list(self.ready):
                if pending.happened:
                    self.ready.remove((pending, step))
                    step()
                    again = True

    def _keep(self, data: bytes) -> None:
        if not self.head:
            self.head = data
            return
        while data:
            size = data[1] & 0x7F
            start = 6
            if size == 126:
                size, start = int.from_bytes(data[2:4], "big"), 8
            elif size == 127:
                size, start = int.from_bytes(data[2:10], "big"), 14
            key, payload = data[start - 4 : start], data[start : start + size]
            plain = bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))
            self.sent.append((data[0] & 0x0F, plain))
            data = data[start + size :]

    def data(self, data: bytes) -> None:
        self.session.receive_data(data, now=self.now)
        self.drain()

    def eof(self) -> None:
        self.session.receive_eof(now=self.now)
        self.drain()

    def lost(self, error: Exception | None = None) -> None:
        self.session.connection_lost(now=self.now, error=error)
        self.drain()

    def unsent(self, count: int) -> None:
        self.session.bytes_unsent(count, now=self.now)
        self.drain()

    def until(self, when: float) -> None:
        """Let the time pass, with every timeout at its time."""
        while (due := self.session.next_timeout()) is not None and due <= when:
            self.now = max(self.now, due)
            self.session.handle_timeout(now=self.now)
            self.drain()
        self.now = when

    # Methods, for mypy takes an attribute to stay as it was.

    def reading(self) -> bool:
        return self.session.reading

    def is_connected(self) -> bool:
        return self.session.is_connected

    def disconnect(self) -> str | None:
        return self.session.disconnect

    def texts(self) -> list[str]:
        return [payload.decode() for opcode, payload in self.sent if opcode == TEXT]


def opened(limits: Limits | None = None, **options: Any) -> Bench:
    bench = Bench(limits, **options)
    bench.data(WELCOME)
    assert bench.opening.is_done()
    assert bench.opening.error is None
    return bench


def text(payload: str) -> bytes:
    return frame(TEXT, payload.encode(), key=None)


def pong(payload: bytes) -> bytes:
    return frame(PONG, payload, key=None)


def bye(code: int = 1000) -> bytes:
    return close_frame(code, key=None)


def closed_code(running: Running) -> int:
    assert isinstance(running.error, SessionClosedError)
    return running.error.code


# -- the handshake -------------------------------------------------------------------------------


def test_the_handshake_opens_it() -> None:
    bench = opened()
    assert bench.head.startswith(b"GET / HTTP/1.1\r\n")
    assert bench.is_connected()
    assert bench.disconnect() is None


def test_a_refusal() -> None:
    bench = Bench()
    bench.data(head("HTTP/1.1 503 No", {"Content-Length": "2", "Retry-After": "7"}) + b"no")
    error = bench.opening.error
    assert isinstance(error, RefusedError)
    assert (error.status, error.headers["retry-after"], error.body) == (503, "7", b"no")
    assert bench.disconnect() == "abort"


def test_no_answer_in_time() -> None:
    bench = Bench(open_timeout_s=3.0)
    bench.until(102.9)
    assert not bench.opening.is_done()
    bench.until(103.0)
    assert isinstance(bench.opening.error, TimeoutError)
    assert bench.disconnect() == "abort"


def test_the_end_before_the_answer() -> None:
    bench = Bench()
    bench.eof()
    assert isinstance(bench.opening.error, RemoteProtocolError)
    bench = Bench()
    failure = ConnectionResetError("reset")
    bench.lost(failure)
    assert bench.opening.error is failure


def test_leaving_before_the_answer() -> None:
    bench = Bench()
    bench.session.leave(now=bench.now)
    assert bench.disconnect() == "abort"


# -- keepalive -----------------------------------------------------------------------------------


def test_silence_is_answered_by_a_ping_and_more_silence_by_a_close() -> None:
    bench = opened(Limits(ping_interval_s=20, ping_timeout_s=10, close_timeout_s=5))
    bench.until(119.9)
    assert bench.sent == []
    bench.until(120.0)
    assert [opcode for opcode, _ in bench.sent] == [PING]
    reader = bench.run(bench.session.receive())
    bench.until(129.9)
    assert not reader.is_done()
    bench.until(130.0)
    assert bench.sent[-1] == (CLOSE, b"\x03\xf3keepalive ping timeout")
    assert reader.is_done()
    assert reader.result is None
    assert bench.session.close_code == 1011
    assert bench.disconnect() is None
    bench.until(135.0)
    assert bench.disconnect() == "abort"


def test_a_pong_keeps_it_and_tells_the_latency() -> None:
    bench = opened(Limits(ping_interval_s=20, ping_timeout_s=10))
    bench.until(120.0)
    bench.now = 120.25
    bench.data(pong(bench.sent[0][1]))
    assert bench.session.latency_s == 0.25
    bench.until(140.2)
    assert len(bench.sent) == 1
    bench.until(140.25)
    assert len(bench.sent) == 2


def test_what_comes_puts_the_ping_off() -> None:
    bench = opened(Limits(ping_interval_s=20))
    bench.until(115.0)
    bench.data(text("x"))
    bench.until(134.9)
    assert bench.sent == []
    bench.until(135.0)
    assert [opcode for opcode, _ in bench.sent] == [PING]


def test_while_nothing_is_read_silence_does_not_count() -> None:
    bench = opened(Limits(ping_interval_s=20, ping_timeout_s=10, inbox_messages_max=1))
    bench.data(text("x"))
    assert not bench.reading()
    bench.until(1000.0)
    assert bench.is_connected()
    assert {opcode for opcode, _ in bench.sent} == {PING}


def test_keepalive_can_be_switched_off() -> None:
    bench = opened(Limits(ping_interval_s=inf))
    assert bench.session.next_timeout() is None


def test_pings_and_pongs() -> None:
    bench = opened()
    first = bench.run(bench.session.ping())
    bench.now += 1
    second = bench.run(bench.session.ping())
    third = bench.run(bench.session.ping())
    payloads = [payload for _, payload in bench.sent]
    assert len(set(payloads)) == 3
    bench.now += 1
    bench.data(pong(b"unasked") + pong(payloads[1]))
    assert (first.result, second.result, third.is_done()) == (2.0, 1.0, False)
    assert bench.session.latency_s == 1.0
    bench.lost()
    assert closed_code(third) == 1006


def test_a_ping_may_be_given_up() -> None:
    bench = opened()
    pinging = bench.run(bench.session.ping(3.0))
    bench.until(103.0)
    assert isinstance(pinging.error, TimeoutError)
    bench.data(pong(bench.sent[0][1]))
    assert bench.session.latency_s is None


# -- messages ------------------------------------------------------------------------------------


def test_a_full_inbox_pauses_reading_and_half_of_it_resumes() -> None:
    bench = opened(Limits(inbox_messages_max=4))
    bench.data(b"".join(text(str(number)) for number in range(3)))
    assert bench.reading()
    bench.data(text("3") + text("4") + text("5"))
    assert not bench.reading()
    received = [bench.run(bench.session.receive()).result for _ in range(6)]
    assert received == list("012345")
    assert bench.reading()


def test_a_full_inbox_in_bytes() -> None:
    bench = opened(Limits(inbox_bytes_max=100))
    bench.data(text("x" * 99))
    assert bench.reading()
    bench.data(text("x"))
    assert not bench.reading()


def test_what_came_before_the_loss_is_given_before_the_end() -> None:
    bench = opened(Limits(inbox_messages_max=2))
    bench.data(b"".join(text(str(number)) for number in range(5)) + bye(4000))
    bench.data(b"")
    bench.lost()
    assert not bench.is_connected()
    assert closed_code(bench.run(bench.session.send("x"))) == 1006
    received = [bench.run(bench.session.receive()).result for _ in range(6)]
    assert received == [*"01234", None]
    assert bench.session.close_code == 4000


def test_a_cancelled_or_late_receiver_loses_nothing() -> None:
    bench = opened()
    cancelled = bench.run(bench.session.receive())
    late = bench.run(bench.session.receive(1.0))
    waiting = bench.run(bench.session.receive())
    cancelled.cancel()
    bench.until(101.0)
    assert isinstance(late.error, TimeoutError)
    bench.data(text("x"))
    assert waiting.result == "x"


def test_send_waits_above_the_mark() -> None:
    bench = opened(Limits(outbox_mark_bytes=1000))
    bench.takes = False
    assert bench.run(bench.session.send("a" * 1001)).is_done()
    second = bench.run(bench.session.send("b"))
    cancelled = bench.run(bench.session.send("c"))
    assert not second.is_done()
    cancelled.cancel()
    bench.takes = True
    bench.drain()
    assert second.is_done()
    assert bench.texts() == ["a" * 1001, "b"]
    bench.unsent(1001)
    third = bench.run(bench.session.send("d"))
    assert not third.is_done()
    bench.unsent(1000)
    assert third.is_done()


def test_unsent_bytes_without_progress_end_it() -> None:
    bench = opened(Limits(stall_timeout_s=5, ping_interval_s=inf))
    bench.unsent(100)
    bench.until(104.0)
    bench.unsent(100)
    bench.until(104.5)
    bench.unsent(99)
    bench.until(109.4)
    assert bench.disconnect() is None
    bench.until(109.5)
    assert bench.disconnect() == "abort"
    assert bench.session.close_code == 1006


# -- the end -------------------------------------------------------------------------------------


def test_our_close_and_theirs_and_the_end_of_the_stream() -> None:
    bench = opened(Limits(close_timeout_s=5))
    reader = bench.run(bench.session.receive())
    pinging = bench.run(bench.session.ping())
    closing = bench.run(bench.session.close(4001, "why"))
    assert bench.sent[-1] == (CLOSE, b"\x0f\xa1why")
    assert closed_code(pinging) == 4001
    assert closed_code(bench.run(bench.session.send("x"))) == 4001
    bench.data(text("after our close") + bye(4001))
    assert reader.is_done()
    assert reader.result is None
    assert not closing.is_done()
    bench.eof()
    assert bench.disconnect() == "close"
    bench.lost()
    assert closing.is_done()
    assert (bench.session.close_code, closing.error) == (4001, None)
    assert bench.run(bench.session.close(1000, "")).is_done()


def test_a_close_that_is_not_answered() -> None:
    bench = opened(Limits(close_timeout_s=5))
    bench.run(bench.session.close(1000, ""))
    bench.until(104.9)
    assert bench.disconnect() is None
    bench.until(105.0)
    assert bench.disconnect() == "abort"
    assert bench.session.close_code == 1006


def test_a_close_reaches_a_server_whose_messages_nobody_receives() -> None:
    bench = opened(Limits(inbox_messages_max=1))
    bench.data(text("a") + text("b") + text("c"))
    assert not bench.reading()
    bench.run(bench.session.close(1000, ""))
    assert bench.reading()
    bench.data(text("d") + bye())
    assert bench.session.close_code == 1000
    assert bench.run(bench.session.receive()).result == "a"
    assert bench.run(bench.session.receive()).result is None


def test_their_close_is_answered_and_the_socket_is_theirs_to_close() -> None:
    bench = opened(Limits(close_timeout_s=5))
    bench.data(bye(1012))
    assert bench.sent == [(CLOSE, b"\x03\xf4")]
    assert bench.disconnect() is None
    bench.until(105.0)
    assert bench.disconnect() == "abort"
    assert bench.session.close_code == 1012


def test_the_socket_is_closed_only_when_all_is_written() -> None:
    bench = opened()
    bench.takes = False
    bench.data(bye(1012))
    bench.eof()
    assert bench.disconnect() is None
    bench.takes = True
    bench.drain()
    bench.unsent(4)
    assert bench.disconnect() is None
    bench.unsent(0)
    assert bench.disconnect() == "close"


def test_leaving_says_goodbye_if_the_socket_takes_it() -> None:
    bench = opened()
    bench.session.leave(now=bench.now)
    assert bench.disconnect() is None
    bench.drain()
    assert bench.sent == [(CLOSE, b"\x03\xe9")]
    assert bench.disconnect() == "close"
    bench = opened()
    bench.takes = False
    bench.session.leave(now=bench.now)
    bench.until(101.0)
    assert bench.disconnect() == "abort"


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (2000, ""), (1000, "é" * 62)])
def test_closes_that_cannot_be_sent(code: int, reason: str) -> None:
    bench = opened()
    assert isinstance(bench.run(bench.session.close(code, reason)).error, LocalProtocolError)
    assert bench.is_connected()


@given(st.lists(st.binary(max_size=300) | st.sampled_from(PARTS), max_size=20), st.data())
def test_nothing_that_a_server_sends_raises(parts: list[bytes], data: st.DataObject) -> None:
    bench = opened(Limits(inbox_messages_max=3, message_bytes_max=200))
    asking = bench.run(bench.session.request({"type": "a"}, int, 10.0))
    closing = data.draw(st.booleans())
    for part in parts:
        bench.data(part)
        if data.draw(st.booleans()):
            bench.until(bench.now + data.draw(st.floats(0, 60)))
        if data.draw(st.booleans()):
            bench.run(bench.session.receive(1.0))
    if closing:
        bench.run(bench.session.close(1000, ""))
    bench.eof()
    bench.lost()
    while bench.session.close_code is None:
        assert bench.run(bench.session.receive()).is_done()
    bench.until(bench.now + 10)
    assert asking.is_done()
    assert bench.session.next_timeout() is None


# -- requests ------------------------------------------------------------------------------------


def reply(request_id: str, data: object) -> bytes:
    return text(
        msgspec.json.encode({"type": "reply", "request_id": request_id, "data": data}).decode()
    )


def test_requests_are_matched_by_id_and_the_rest_is_for_receive() -> None:
    bench = opened()
    first = bench.run(bench.session.request({"type": "a"}, Any, 10.0))
    second = bench.run(bench.session.request({"type": "b"}, int, 10.0))
    assert [msgspec.json.decode(each) for each in bench.texts()] == [
        {"type": "a", "request_id": "c1"},
        {"type": "b", "request_id": "c2"},
    ]
    bench.data(text("no JSON") + text('{"type":"event"}') + reply("c2", 5) + reply("c7", 0))
    assert (first.is_done(), second.result) == (False, 5)
    bench.data(reply("c1", {"x": 1}))
    assert first.result == {"x": 1}
    others = [bench.run(bench.session.receive()).result for _ in range(3)]
    assert others[:2] == ["no JSON", '{"type":"event"}']
    assert '"c7"' in others[2]


def test_a_late_reply_is_dropped_and_dropped_once() -> None:
    bench = opened()
    asking = bench.run(bench.session.request({"type": "a"}, Any, 2.0))
    bench.until(102.0)
    assert isinstance(asking.error, TimeoutError)
    bench.data(reply("c1", "late") + reply("c1", "again"))
    assert "again" in bench.run(bench.session.receive()).result


def test_requests_that_fail() -> None:
    bench = opened()
    asking = bench.run(bench.session.request({"type": "a"}, int, 10.0))
    bench.data(text('{"type":"error","request_id":"c1","code":"busy","message":"no"}'))
    assert isinstance(asking.error, RequestFailedError)
    assert asking.error.code == "busy"
    wrong = bench.run(bench.session.request({"type": "a"}, int, 10.0))
    bench.data(reply("c2", "text"))
    assert isinstance(wrong.error, RequestFailedError)
    lost = bench.run(bench.session.request({"type": "a"}, int, 10.0))
    bench.data(bye(1012))
    assert closed_code(lost) == 1012
    late = bench.run(bench.session.request({"type": "a"}, int, 10.0))
    assert closed_code(late) == 1012


def test_a_request_that_cannot_be_sent_in_time() -> None:
    bench = opened(Limits(outbox_mark_bytes=10))
    bench.takes = False
    bench.run(bench.session.send("x" * 100))
    asking = bench.run(bench.session.request({"type": "a"}, int, 2.0))
    bench.until(102.0)
    assert isinstance(asking.error, TimeoutError)


def test_requests_by_another_parser() -> None:
    bench = opened(parser=MessagePackParser())
    asking = bench.run(bench.session.request({"type": "a"}, int, 10.0))
    assert msgspec.msgpack.decode(bench.sent[0][1]) == {"type": "a", "request_id": "c1"}
    answer = {"type": "reply", "request_id": "c1", "data": 7}
    bench.data(frame(2, msgspec.msgpack.encode(answer), key=None))
    assert asking.result == 7
