"""A PostgreSQL whose server hangs: a proxy on a Unix socket in front of the tests' own that stops passing bytes on.

To a client it is a server that was stopped by SIGSTOP, or a network that drops its packets: connections stay open and
new ones are accepted, but nothing is answered.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import make_url


class Stalling:
    """The proxy. Clear `flowing` to make everything hang; with `commits` cleared only the COMMIT of what wrote hangs,
    as it does when the last synchronous standby is lost."""

    def __init__(self, target: str, folder: Path) -> None:
        parsed = make_url(target)
        self._target = f"{parsed.query['host']}/.s.PGSQL.5432"
        self.url = parsed.set(query={"host": str(folder)}).render_as_string(hide_password=False)
        self.flowing, self.commits = threading.Event(), threading.Event()
        self.flowing.set()
        self.commits.set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{folder}/.s.PGSQL.5432")
        self._listening.listen(64)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink, source is client), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, questions: bool) -> None:
        wrote = False
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if questions:
                    wrote = wrote or any(word in data for word in (b"INSERT", b"UPDATE", b"DELETE"))
                    if b"COMMIT" in data:
                        if wrote:
                            self.commits.wait()
                        wrote = False
                self.flowing.wait()
                sink.sendall(data)
        for item in (source, sink):
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections."""
        self.flowing.set()
        self.commits.set()
        for item in [self._listening, *self._open]:
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()


@contextmanager
def stalling(target: str) -> Iterator[Stalling]:
    """A running proxy in front of the PostgreSQL database at URL `target`, which is reached by a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="rcl-stall-", dir="/tmp") as folder:
        created = Stalling(target, Path(folder))
        try:
            yield created
        finally:
            created.close()
