"""A proxy that serves the ledger below a path prefix and takes the prefix off, as nginx does (`proxy_pass .../;`)."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PREFIX = "/risk/ledger"
ELSEWHERE = b"another application of this host"


class PrefixProxy:
    """Listens on loopback. What lies outside `PREFIX` is answered by another application (404, `ELSEWHERE`), and noted
    in `strays`. `target` is the address of the ledger; set it before the first request."""

    def __init__(self) -> None:
        self.target = ""
        self.strays: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not (self.path.startswith(f"{PREFIX}/") or self.path == PREFIX):
                    proxy.strays.append(self.path)
                    self.send_response(404)
                    self.send_header("Content-Length", str(len(ELSEWHERE)))
                    self.end_headers()
                    self.wfile.write(ELSEWHERE)
                    return
                parts = urlsplit(proxy.target)
                upstream = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
                try:
                    headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                    upstream.request(self.command, self.path[len(PREFIX) :] or "/", body or None, headers)
                    answer = upstream.getresponse()
                    data = answer.read()
                    self.send_response(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                            self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                finally:
                    upstream.close()

            do_GET = do_POST = do_HEAD = _pass_on  # noqa: N815

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where people reach the ledger."""
        return self.origin + PREFIX

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)


@contextmanager
def prefix_proxy() -> Iterator[PrefixProxy]:
    """A running proxy."""
    proxy = PrefixProxy()
    try:
        yield proxy
    finally:
        proxy.close()
