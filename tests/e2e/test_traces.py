"""A frame's trace, as a receiver of OTLP is sent it by two processes that share a Redis."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.simulator import Options, Simulator
from tests.e2e.process import following, on_exchange, opened, product, soon
from tests.redis.servers import server

pytestmark = pytest.mark.e2e


class Receiver:
    """What was sent, by the service that sent it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.spans: list[tuple[str, Span]] = []

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.spans += [
                (names["service.name"], span)
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def whole(self) -> list[tuple[str, Span]]:
        """The spans of a trace that has been followed to a stream of the serving process."""
        roads = [
            [(service, one) for service, one in self.spans if one.trace_id == trace]
            for trace in {
                span.trace_id
                for service, span in self.spans
                if (service, span.name) == ("serve", "deliver")
            }
        ]
        return next((road for road in roads if ("feed", "frame") in _names(road)), [])


def _names(road: list[tuple[str, Span]]) -> set[tuple[str, str]]:
    return {(service, span.name) for service, span in road}


@contextmanager
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            assert "content-encoding" not in self.headers
            found.take(body)
            self.send_response(200)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        log_message: Callable[..., None] = lambda *_: None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        found = Receiver(served.server_address[1])
        thread = threading.Thread(target=served.serve_forever, name="otlp")
        thread.start()
        try:
            yield found
        finally:
            served.shutdown()
            thread.join()


async def test_a_frame_is_one_trace_over_both_processes(tmp_path: Path) -> None:
    with receiver() as otlp:
        async with (
            server(tmp_path) as redis,
            Simulator(Options(port=0, rate=40, account=False)) as exchange,
        ):
            environment = on_exchange(exchange.url, broker_url=redis.url) | {
                "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
            }
            feed, serve = (
                environment | {"SLUICE_ROLE": role, "OTEL_SERVICE_NAME": role}
                for role in ("feed", "serve")
            )
            async with (
                product(tmp_path, "serve", environment=feed) as leader,
                product(tmp_path, "serve", environment=serve) as gateway,
            ):
                await gateway.up("/readyz")
                async with opened(gateway.url, following("ticker:*", "trade:*")) as stream:
                    for _ in range(20):
                        await stream.data()
                    await soon(otlp.whole, "a whole trace")
                for process in (gateway, leader):
                    await process.stop()
                    assert "Traceback" not in process.output
                    assert '"event": "traces"' in process.output
    road = {(service, span.name): span for service, span in otlp.whole()}
    frame, append = road["feed", "frame"], road["feed", "append"]
    assert frame.parent_span_id == b""
    assert append.parent_span_id == road["feed", "sequence"].parent_span_id == frame.span_id
    for service in ("feed", "serve"):
        assert road[service, "hear"].parent_span_id == append.span_id
    deliver = road["serve", "deliver"]
    assert deliver.parent_span_id == road["serve", "hear"].span_id
    assert frame.start_time_unix_nano <= deliver.end_time_unix_nano
    assert ("serve", "stream ended") in _names(otlp.spans), "what is left is sent in the end"
