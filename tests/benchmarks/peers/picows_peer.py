"""picows: its listeners, in Cython underneath, with aiofastnet where that is installed.

Payloads are passed on as memoryviews, without a copy: unlike the other peers it neither
makes a `str` of a text message nor checks that it is UTF-8.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from picows import (  # type: ignore[import-not-found, unused-ignore]
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from _serve import HOST, main

members: set[WSTransport] = set()


class Echo(WSListener):  # type: ignore[misc, unused-ignore]
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Room(WSListener):  # type: ignore[misc, unused-ignore]
    def on_ws_connected(self, transport: WSTransport) -> None:
        members.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        msg_type, payload = frame.msg_type, frame.get_payload_as_memoryview()
        for member in members:
            member.send(msg_type, payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        members.discard(transport)


def route(request: WSUpgradeRequest) -> WSListener:
    return Room() if request.path == b"/room" else Echo()


@asynccontextmanager
async def listen(port: int) -> AsyncIterator[int]:
    async with await ws_create_server(route, HOST, port) as server:
        yield server.sockets[0].getsockname()[1]


if __name__ == "__main__":
    main(listen)
