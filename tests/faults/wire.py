"""A TCP path between the ledger and its database, which leads elsewhere, is cut, or swallows everything."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing sends RST, what was not sent is lost."""


@dataclass
class Link:
    """One connection through the path. A `dead` one drops the bytes that it receives, without a sign to either end."""

    client: socket.socket
    server: socket.socket
    dead: bool = False


@dataclass
class Wire:
    """A path to `target`, a port of 127.0.0.1 or the path of a Unix socket. Set `target` while it runs: it counts for
    new connections, as a changed name would."""

    target: int | str
    port: int = 0
    silent: bool = False
    """New connections are accepted by the kernel and not served."""
    _links: list[Link] = field(default_factory=list)
    _waiting: list[socket.socket] = field(default_factory=list)

    def serve(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            if self.silent:
                self._waiting.append(client)
                continue
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            for item in (client, server):
                item.settimeout(None)
                if item.family != socket.AF_UNIX:
                    item.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, server)
            self._links.append(link)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(link, source, sink), daemon=True).start()

    def _connect(self) -> socket.socket:
        if isinstance(self.target, int):
            return socket.create_connection(("127.0.0.1", self.target), timeout=5)
        created = socket.socket(socket.AF_UNIX)
        try:
            created.connect(self.target)
        except OSError:
            created.close()
            raise
        return created

    def _pump(self, link: Link, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not link.dead:
                    sink.sendall(data)
        if not link.dead:
            for item in (source, sink):
                with suppress(OSError):
                    item.shutdown(socket.SHUT_RDWR)

    def go_dark(self) -> None:
        """The host behind the path is gone without a word: no answer, no end, on old connections and on new ones."""
        self.silent = True
        for link in self._links:
            link.dead = True

    def answer(self) -> None:
        """New connections are served again; those that were open when it went dark stay dead."""
        self.silent = False

    def reset(self) -> None:
        """Cut all connections with RST."""
        for link in self._links:
            for item in (link.client, link.server):
                with suppress(OSError):
                    item.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    item.shutdown(socket.SHUT_RD)
                item.close()

    def close_all(self) -> None:
        links = [each for link in self._links for each in (link.client, link.server)]
        for item in [*links, *self._waiting]:
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)  # closing alone ends nothing while a thread reads from it
            item.close()


@contextmanager
def wire(target: int | str) -> Iterator[Wire]:
    """A running path to `target`."""
    created = Wire(target)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        created.port = listening.getsockname()[1]
        thread = threading.Thread(target=created.serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield created
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            created.close_all()
