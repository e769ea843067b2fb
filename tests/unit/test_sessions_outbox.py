"""The outbox: the order of what is sent, its size, and what is dropped."""

from __future__ import annotations

import pytest

from wireroom.core.sessions.outbox import Outbox


def new_outbox() -> Outbox:
    return Outbox(fd=1, mark=10, limit=20)


def test_frames_come_in_order_and_once() -> None:
    outbox = new_outbox()
    for count in (1, 2, 3, 1):
        frames = [b"%d" % number for number in range(count)]
        for frame in frames:
            outbox.put(frame)
        assert outbox.frames == frames
        assert outbox.waiting == count
        assert outbox.take() == frames
        assert outbox.take() == []
        assert outbox.waiting == 0
    assert outbox.empty


def test_buffers_are_given_as_they_are() -> None:
    outbox = new_outbox()
    frame = b"a frame that others share"
    outbox.put(frame)
    assert outbox.take()[0] is frame


def test_control_frames_go_before_messages() -> None:
    outbox = new_outbox()
    outbox.put(b"message")
    outbox.put_control(b"pong", 4)
    assert outbox.take() == [b"pong", b"message"]


def test_nothing_goes_before_a_response() -> None:
    outbox = new_outbox()
    outbox.put_response(b"101")
    outbox.put(b"message")
    outbox.put_control(b"pong", 4)
    assert outbox.take() == [b"101", b"pong", b"message"]


def test_the_oldest_control_frame_goes_beyond_the_bound() -> None:
    outbox = new_outbox()
    assert [outbox.put_control(pong, 2) for pong in (b"1", b"2", b"3")] == [True, True, False]
    assert outbox.take() == [b"2", b"3"]


def test_size_counts_what_was_not_taken() -> None:
    outbox = new_outbox()
    outbox.put(b"12345")
    outbox.put_response(b"123")
    assert (outbox.size, outbox.waiting) == (8, 8)
    outbox.take()
    outbox.set_unsent(4)
    assert (outbox.size, outbox.waiting) == (0, 4)


@pytest.mark.parametrize("kind", ["message", "control", "response"])
def test_empty_means_that_all_was_taken_of_every_kind(kind: str) -> None:
    outbox = new_outbox()
    assert outbox.empty
    if kind == "message":
        outbox.put(b"")
    elif kind == "control":
        outbox.put_control(b"ping", 1)
    else:
        outbox.put_response(b"200")
    assert is_empty(outbox) is False
    outbox.take()
    assert is_empty(outbox) is True


def is_empty(outbox: Outbox) -> bool:
    """Asked anew, since mypy remembers an attribute."""
    return outbox.empty


def test_clear_drops_frames_but_no_response() -> None:
    outbox = new_outbox()
    outbox.put_response(b"101")
    outbox.put(b"one")
    outbox.put(b"two")
    outbox.put_control(b"pong", 1)
    assert outbox.clear() == 2
    assert outbox.size == 3
    assert outbox.take() == [b"101"]
