"""`/metrics`, by prometheus-client: everything that the hub counts, and what the application adds.

Each `install` has a registry of its own, so that several apps and hubs in a process do not clash:

    greetings = prometheus_client.Counter("greetings", "People greeted.", registry=ops.registry)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Final, NamedTuple, final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from wireroom.core import Request, Response, Stats, Stopwatch, current_session
from wireroom.core.sessions.session import SessionHub

from .health import Health
from .latency import BOUNDS_S, Latency


class _Named(NamedTuple):
    name: str  # without the prefix, and without a counter's `_total`
    documentation: str


_GAUGES: Final = {
    "connections": _Named("connections", "Sockets, WebSocket or not."),
    "sessions": _Named("sessions", "Open WebSocket sessions."),
    "rooms": _Named("rooms", "Rooms that somebody is in."),
    "users": _Named("users", "Users with at least one open session."),
    "invocations": _Named("invocations", "async and blocking handlers under way."),
    "contexts": _Named("messages_in_handling", "Messages that are being handled."),
    "waiting_publishes": _Named("waiting_publishes", "Messages that wait for the backplane."),
}
_COUNTERS: Final = {
    "connections_total": _Named("connections_accepted", "Connections that were taken."),
    "connections_refused": _Named("connections_refused", "Connections refused with 503."),
    "sessions_total": _Named("sessions_opened", "WebSocket handshakes that were accepted."),
    "requests": _Named("requests", "Complete HTTP request heads, handshakes included."),
    "proxies_refused": _Named("proxies_refused", "Connections without a proper PROXY header."),
    "requests_refused": _Named("requests_refused", "Requests answered with 4xx or 5xx."),
    "messages_received": _Named("messages_received", "Messages from clients."),
    "messages_sent": _Named("messages_sent", "Messages to clients, once a receiver."),
    "broadcasts": _Named("broadcasts", "Messages to rooms, users, or all."),
    "bytes_received": _Named("received_bytes", "Bytes from clients, after TLS."),
    "bytes_sent": _Named("sent_bytes", "Bytes to clients, before TLS."),
    "handler_failures": _Named("handler_failures", "Handlers that have raised."),
    "bad_messages": _Named("bad_messages", "Messages answered with an error reply."),
    "late_replies": _Named("late_replies", "Replies to no request, or one that was given up."),
    "violations": _Named("protocol_violations", "Sessions closed with 1002, 1003, 1007 or 1009."),
    "dropped_messages_received": _Named(
        "dropped_messages_received", "Messages that came too late, or were never handled."
    ),
    "dropped_messages_sent": _Named(
        "dropped_messages_sent", "Messages in the outboxes of sessions that were given up."
    ),
    "dropped_pongs": _Named("dropped_pongs", "Pongs left out because newer ones waited."),
    "dropped_bytes_received": _Named("dropped_received_bytes", "Bytes that came after the end."),
    "stalled": _Named("stalled_connections", "Connections aborted: the peer read nothing."),
    "overflowed": _Named("overflowed_sessions", "Sessions closed with 1008: a full outbox."),
    "ping_timeouts": _Named("ping_timeouts", "Sessions closed for want of any sign of life."),
    "close_timeouts": _Named("close_timeouts", "Connections aborted: they did not end in time."),
    "head_timeouts": _Named("head_timeouts", "Connections without a request in time."),
    "dropped_publishes": _Named("dropped_publishes", "Messages of the moment not said to others."),
    "refused_publishes": _Named("refused_publishes", "Messages refused: the backplane was away."),
    "bad_publishes": _Named("bad_publishes", "Messages of other programs on our channels."),
    "backplane_losses": _Named("backplane_losses", "Times that the backplane went away."),
    "dropped_history_messages": _Named(
        "dropped_history_messages", "Messages out of rooms' histories, for their bytes."
    ),
    "histories_lost": _Named("histories_lost", "Rooms whose members were told of missed messages."),
}


@final
class Metrics:
    """A registry with a hub's counters. `version` is what `wireroom_info` says."""

    def __init__(self, health: Health, version: str) -> None:
        self.registry = CollectorRegistry()
        self._hub = _HubCollector(health, version)
        self.registry.register(self._hub)
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def metrics(self, request: Request) -> Response:
        """The route `/metrics`: Prometheus' text format, or OpenMetrics to who asks for it."""
        self._hub.look_at(current_session().hub)
        try:
            encode, content_type = choose_encoder(request.headers.get("accept", ""))
            body = encode(self.registry)
        except (TypeError, ValueError):  # it asks for a version, or an escaping, that is none
            encode, content_type = choose_encoder("")
            body = encode(self.registry)
        return Response(200, body, {"Cache-Control": "no-store"}, content_type=content_type)


@final
class _HubCollector(Collector):
    """What a hub knows, as it was when it was last looked at."""

    def __init__(self, health: Health, version: str) -> None:
        self._health = health
        self._version = version
        self._stats = Stats()
        self._latency = Latency()

    def look_at(self, hub: SessionHub) -> None:
        """Take the numbers of `hub`."""
        self._stats = hub.stats()
        watch = hub.service(Stopwatch)
        if isinstance(watch, Latency):
            self._latency = watch

    def describe(self) -> list[Metric]:
        """Names are checked at each look, not when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        stats = dataclasses.asdict(self._stats)
        for field, named in _GAUGES.items():
            yield GaugeMetricFamily(f"wireroom_{named.name}", named.documentation, stats[field])
        for field, named in _COUNTERS.items():
            yield CounterMetricFamily(f"wireroom_{named.name}", named.documentation, stats[field])
        yield self._closes()
        yield self._durations()
        yield InfoMetricFamily("wireroom", "The server.", {"version": self._version})
        unready = bool(self._health.unready_reasons())
        yield GaugeMetricFamily("wireroom_ready", "Whether /readyz says 200.", float(not unready))
        checks = GaugeMetricFamily("wireroom_check_ok", "Each check's state.", labels=["check"])
        for name, reason, _ in self._health.results():
            checks.add_metric([name], float(reason is None))
        yield checks

    def _closes(self) -> Metric:
        family = CounterMetricFamily(
            "wireroom_sessions_closed",
            "Sessions that ended: by the code of the Close that began it, and whose that was"
            " (nobody: there was none, 1006). Private codes of peers are 3000 or 4000.",
            labels=["code", "by"],
        )
        for (code, by), count in sorted(self._stats.closes.items()):
            family.add_metric([str(code), by], count)
        return family

    def _durations(self) -> Metric:
        family = HistogramMetricFamily(
            "wireroom_message_handling_seconds",
            "From a message's turn to the end of its handler, with what that waits for.",
            labels=["handler"],
        )
        for name, histogram in sorted(self._latency.histograms.items()):
            buckets: list[tuple[str, float]] = []
            count = 0
            for bound, in_bucket in zip(BOUNDS_S, histogram.counts, strict=False):
                count += in_bucket
                buckets.append((str(bound), count))
            buckets.append(("+Inf", count + histogram.counts[-1]))
            family.add_metric([name], buckets, histogram.sum_s)
        return family
