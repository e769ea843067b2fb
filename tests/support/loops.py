"""What the fixtures that run coroutines are made of."""

from __future__ import annotations

import asyncio
import select
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
import uvloop

RunLoop: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
NewLoop: TypeAlias = Callable[[], asyncio.AbstractEventLoop]

TEST_TIMEOUT_S = 120.0  # a test that takes this long hangs

LOOPS: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_on(new_loop: NewLoop) -> RunLoop:
    """What runs a coroutine in a loop of its own."""

    def run_on_loop(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(TEST_TIMEOUT_S):
                await main

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(bounded())

    return run_on_loop


@contextmanager
def without_epoll() -> Iterator[NewLoop]:
    """As on a system without epoll(7); gives asyncio's loop there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(select, "epoll", raising=False)
        yield lambda: asyncio.SelectorEventLoop(selectors.PollSelector())
