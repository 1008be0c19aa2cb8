"""A TCP proxy that records what passes, requests and answers: the traffic as the party sees it that ends the TLS."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Recorder:
    """A proxy at `url`, on a port of its own from the start. Set `target`, the address of the server, when it is known;
    connections are refused until then."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.target = ""
        self._streams: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def transcript(self) -> bytes:
        """What each connection carried so far, first its requests, then its answers."""
        return b"\0".join([bytes(stream) for stream in self._streams])

    def close(self) -> None:
        """Close the port and all connections."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends `accept`
        for each in (self._listening, *self._sockets):
            with suppress(OSError):
                each.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                parts = urlsplit(self.target)
                server = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._streams.append(bytearray())
                threading.Thread(target=_pass, args=(source, sink, self._streams[-1]), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, stream: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            stream += data
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
