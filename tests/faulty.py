"""Things that go wrong between a client and the ledger: a proxy that cuts and delays, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOW_SECONDS = 8.0
"""How long a slow server takes: far more than any client here waits for."""

PROMPT_SECONDS = 4.0
"""What comes within this time did not wait for a slow server, however busy the machine is."""


@dataclass
class Proxy:
    """A TCP proxy in front of a server. Set the attributes while it runs."""

    target: str
    cut_answers: int = 0
    """The number of next answers that are cut: the server has done its work, the client gets nothing."""
    refuse: bool = False
    """Accept connections and close them at once."""
    delay_seconds: float = 0.0
    """Before an answer is passed on."""
    connections: int = 0
    url: str = ""
    _sockets: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            self.connections += 1
            if self.refuse:
                client.close()
                continue
            parts = urlsplit(self.target)
            try:
                server = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._sockets += [client, server]
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self.refuse:
                    break
                if answers:
                    with self._lock:
                        cut, self.cut_answers = self.cut_answers > 0, max(0, self.cut_answers - 1)
                    if cut:
                        break
                    time.sleep(self.delay_seconds)
                sink.sendall(data)
        for item in (source, sink):
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)

    def close_all(self) -> None:
        for item in self._sockets:
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)  # closing alone ends nothing while a thread reads from it
            item.close()


@contextmanager
def proxy(target: str) -> Iterator[Proxy]:
    """A running Proxy in front of the server at URL `target`."""
    created = Proxy(target)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        created.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=created.serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield created
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            created.close_all()


def _as_problem(headers: dict[str, str], answer: bytes, request_id: str) -> tuple[dict[str, str], bytes]:
    """A failure whose body is JSON with a `code`, as the ledger sends it: media type, `type` and the request's id."""
    try:
        problem = json.loads(answer)
    except ValueError:
        return headers, answer
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        return headers, answer
    own = {"type": f"urn:refund-ledger:problem:{problem['code']}", "request_id": request_id}
    return {"Content-Type": "application/problem+json", **headers}, json.dumps({**own, **problem}).encode()


Respond = Callable[[str, str, bytes], tuple[int, dict[str, str], bytes]]
"""(method, path, body) -> (status, headers, body)."""


@contextmanager
def answering(
    respond: Respond, pause: Callable[[], Any] | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """The URL of an HTTP server that answers with `respond`; `pause`, if given, is called after every 10 bytes of the
    body. A failure with a `code` and no Content-Type becomes a problem document of the ledger's. With
    `tls`, it speaks TLS, as localhost."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written apart: the body would wait for an acknowledgement

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, answer = respond(self.command, self.path, body)
            if status >= 400 and "Content-Type" not in headers:
                headers, answer = _as_problem(headers, answer, self.headers.get("X-Request-Id", "none"))
            with suppress(OSError):
                # `send_response` would add a second date.
                (self.send_response_only if "Date" in headers else self.send_response)(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if pause is None:
                    self.wfile.write(answer)
                    return
                for start in range(0, len(answer), 10):
                    self.wfile.write(answer[start : start + 10])
                    pause()

        do_GET = do_POST = _answer  # noqa: N815 the names the base class calls

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        host = "http://127.0.0.1" if tls is None else "https://localhost"
        yield f"{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
