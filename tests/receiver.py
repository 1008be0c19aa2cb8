"""A platform's webhook receiver: a real HTTP server on loopback whose answers a test sets."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook


@dataclass(frozen=True)
class Arrival:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """`webhook-id`."""
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, object]:
        """The payload, as the specification's own library verifies it."""
        return dict(Webhook(secret).verify(self.body, dict(self.headers)))


@dataclass(frozen=True)
class Reply:
    """What is answered; status 0: nothing. `wait` is waited for first; `drip`: a byte of the head now and then."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    wait: threading.Event | None = None
    drip: bool = False


def always(reply: Reply) -> Callable[[Arrival], Reply]:
    """Answers `reply` whatever arrives."""
    return lambda _arrival: reply


class Receiver:
    """Answers by `reply(arrival)` and keeps what arrived."""

    def __init__(self, reply: Callable[[Arrival], Reply], tls: ssl.SSLContext | None) -> None:
        self.reply = reply
        self.arrivals: list[Arrival] = []
        self.arrived = threading.Semaphore(0)
        self.stopping = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                arrival = Arrival(self.path, headers, body)
                receiver.arrivals.append(arrival)
                receiver.arrived.release()
                try:
                    self._answer(receiver.reply(arrival))
                except OSError:
                    self.close_connection = True

            def _answer(self, reply: Reply) -> None:
                if reply.wait is not None:
                    reply.wait.wait(20)
                if reply.drip:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                    while not receiver.stopping.wait(0.02):
                        self.wfile.write(b"X")
                    return
                if not reply.status:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def do_GET(self) -> None:
                receiver.arrivals.append(Arrival(self.path, {}, b""))
                self._answer(Reply())

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, client_address: object) -> None:
                return  # a client that hangs up, or does not like the certificate

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}/hook?from=ledger"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def ids(self) -> list[str]:
        """`webhook-id` of what arrived, in order."""
        return [arrival.id for arrival in self.arrivals]

    def close(self) -> None:
        """Stop."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def receiving(
    reply: Callable[[Arrival], Reply] = lambda _arrival: Reply(), tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    """A receiver, closed at the end."""
    receiver = Receiver(reply, tls)
    try:
        yield receiver
    finally:
        receiver.close()
