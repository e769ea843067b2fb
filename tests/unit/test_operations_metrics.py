"""/metrics: everything that is counted, one registry an app."""

from __future__ import annotations

import dataclasses

import pytest
from prometheus_client import Counter
from prometheus_client.parser import text_string_to_metric_families

from driver import Simulation
from http_responses import HttpResponse, read_response
from raw import get
from wireroom import operations
from wireroom.core import App, Context, Session, Stopwatch
from wireroom.core.sessions.stats import Stats
from wireroom.operations.latency import BOUNDS_S, Histogram, Latency


def scrape(simulation: Simulation, *headers: str) -> HttpResponse:
    peer = simulation.connect()
    peer.send_raw(get("/metrics", *headers))
    response = read_response(bytes(peer.received))
    assert simulation.failures == []
    peer.lose()
    return response


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(response: HttpResponse) -> Samples:
    assert response.status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


def test_all_that_is_counted_is_there() -> None:
    from wireroom.operations import metrics

    fields = {field.name for field in dataclasses.fields(Stats)} - {"closes"}
    assert metrics._GAUGES.keys() | metrics._COUNTERS.keys() == fields
    app = App()
    operations.install(app)
    found = samples(scrape(Simulation(app)))
    for named in metrics._GAUGES.values():
        assert value(found, f"wireroom_{named.name}") is not None
    for named in metrics._COUNTERS.values():
        assert value(found, f"wireroom_{named.name}_total") is not None


def test_it_says_what_happened() -> None:
    app = App()
    ops = operations.install(app, checks={"backplane": lambda: "gone"})
    module = app.module("/chat")

    @module.command("say")
    def say(ctx: Context) -> str:
        return "said"

    @module.command("fail")
    def fail(ctx: Context) -> None:
        raise ValueError("on purpose")

    simulation = Simulation(app)
    stays, leaves = simulation.open("/chat"), simulation.open("/chat")
    stays.send('{"type": "say"}', '{"type": "say"}')
    leaves.close(4321)
    found = samples(scrape(simulation))
    assert value(found, "wireroom_sessions") == 1
    assert value(found, "wireroom_connections") == 2  # this one
    assert value(found, "wireroom_sessions_opened_total") == 2
    assert value(found, "wireroom_messages_received_total") == 2
    assert value(found, "wireroom_sessions_closed_total", code="4000", by="peer") == 1
    assert value(found, "wireroom_ready") == 1
    assert value(found, "wireroom_check_ok", check="backplane") == 0
    assert value(found, "process_start_time_seconds")
    ops.health.drain()
    assert value(samples(scrape(simulation)), "wireroom_ready") == 0

    stays.send('{"type": "fail"}')
    assert [str(error) for error in simulation.failures] == ["on purpose"]
    simulation.outputs.clear()
    assert value(samples(scrape(simulation)), "wireroom_handler_failures_total") == 1


class Clock:
    """Gives these times, one after another."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)

    def __call__(self) -> float:
        return self.times.pop(0)


def test_the_histogram_of_each_handler_is_there() -> None:
    app = App()
    operations.install(app)
    app.provide(Stopwatch, lambda: Latency(Clock(0.0, 0.001, 1.0, 1.003, 2.0, 102.0)))

    @app.module("/").on_message
    def handle(session: Session, message: str) -> None:
        pass

    simulation = Simulation(app)
    simulation.open("/").send("1", "2", "3")
    found = samples(scrape(simulation))
    name = f"{__name__}.test_the_histogram_of_each_handler_is_there.<locals>.handle"

    def bucket(le: str) -> float | None:
        return value(found, "wireroom_message_handling_seconds_bucket", handler=name, le=le)

    assert bucket("0.0005") == 0
    assert bucket("0.001") == 1  # a bound is in its bucket
    assert bucket("0.005") == 2
    assert bucket("10.0") == 2
    assert bucket("+Inf") == 3
    assert value(found, "wireroom_message_handling_seconds_count", handler=name) == 3
    total = value(found, "wireroom_message_handling_seconds_sum", handler=name)
    assert total == pytest.approx(100.004)


def test_latencies_are_added_up() -> None:
    latency = Latency(Clock(0.02, 5.0, 1.0, 0.0))
    latency.stop("one", 0.0)
    latency.stop("two", 0.0)
    latency.stop("two", 0.0)
    total = latency.total()
    assert total.count == 3
    assert total.max_s == 5.0
    assert total.sum_s == pytest.approx(6.02)
    assert latency.histograms["one"].max_s == 0.02
    assert latency.start() == 0.0
    assert Histogram().count == 0
    assert list(BOUNDS_S) == sorted(set(BOUNDS_S))


def test_two_hubs_in_a_process_do_not_clash() -> None:
    first, second = App(), App()
    one, two = operations.install(first), operations.install(second)
    Counter("greetings", "People greeted.", registry=one.registry).inc(3)
    Counter("greetings", "People greeted.", registry=two.registry)
    a, b, c = Simulation(first), Simulation(second), Simulation(first)
    first.module("/later")  # of no hub
    assert value(samples(scrape(a)), "greetings_total") == 3
    assert value(samples(scrape(b)), "greetings_total") == 0
    assert value(samples(scrape(a)), "wireroom_requests_total") == 2
    assert value(samples(scrape(c)), "wireroom_requests_total") == 1
    assert value(samples(scrape(b)), "wireroom_requests_total") == 2


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("text/plain; version=none", "text/plain"),
        ("text/plain;version=0.0.4;q=0.3,*/*;q=0.2", "text/plain"),
        ("application/openmetrics-text; version=9e9; escaping=x", "text/plain"),
        ("text/plain; version=1.0.0; escaping=everything", "text/plain"),
    ],
)
def test_who_asks_for_openmetrics_gets_it(accept: str, content_type: str) -> None:
    app = App()
    operations.install(app)
    response = scrape(Simulation(app), f"Accept: {accept}")
    assert response.status == 200
    assert response.headers["content-type"].startswith(content_type)
    assert response.headers["cache-control"] == "no-store"
    assert b"wireroom_sessions" in response.body
    assert response.body.endswith(b"# EOF\n") == content_type.startswith("application")
