"""The table of states: what it allows, and that it raises for the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireroom.core.errors import LocalProtocolError
from wireroom.core.wire.states import TRANSITIONS, Input, State, next_state

states = st.sampled_from(State)
inputs = st.sampled_from(Input)


@given(states, inputs)
def test_a_transition_is_in_the_table_or_raises(state: State, happened: Input) -> None:
    if happened in TRANSITIONS[state]:
        assert next_state(state, happened) is TRANSITIONS[state][happened]
    else:
        with pytest.raises(LocalProtocolError, match=state.name):
            next_state(state, happened)


@given(st.lists(inputs))
def test_a_life_ends_exactly_when_the_socket_is_lost(life: list[Input]) -> None:
    state = State.HEAD
    for happened in life:
        try:
            state = next_state(state, happened)
        except LocalProtocolError:
            continue
        assert (state is State.CLOSED) == (happened is Input.LOST)
        if state is State.CLOSED:
            break
    assert Input.LOST not in life or state is State.CLOSED


@pytest.mark.parametrize("state", State)
def test_the_socket_may_be_lost_once_and_at_any_time(state: State) -> None:
    if state is State.CLOSED:
        assert not TRANSITIONS[state]
    else:
        assert next_state(state, Input.LOST) is State.CLOSED


def test_every_state_and_every_input_is_used() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {after for row in TRANSITIONS.values() for after in row.values()} == set(State)
    assert {happened for row in TRANSITIONS.values() for happened in row} == set(Input)


def test_a_websocket_is_opened_by_a_request_only() -> None:
    opening = {
        (before, happened)
        for before, row in TRANSITIONS.items()
        for happened, after in row.items()
        if after is State.OPEN
    }
    assert opening == {(State.REQUEST, Input.ACCEPTED)}


def test_nothing_leads_back_from_an_open_websocket() -> None:
    order = [State.OPEN, State.CLOSING, State.ENDING, State.CLOSED]
    for place, state in enumerate(order):
        assert set(TRANSITIONS[state].values()) <= set(order[place:])


def test_a_close_is_sent_once() -> None:
    after = next_state(State.OPEN, Input.CLOSE_SENT)
    assert after is State.CLOSING
    with pytest.raises(LocalProtocolError, match="we sent a Close"):
        next_state(after, Input.CLOSE_SENT)
