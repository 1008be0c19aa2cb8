"""PostgreSQL servers of a test's own, on TCP: a primary and streaming standbys that can be killed, stopped and
promoted."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests import pg

OPTIONS = (
    "listen_addresses=127.0.0.1",
    "shared_buffers=32MB",
    "max_wal_size=128MB",
    "log_min_messages=fatal",
    "fsync=off",
    "full_page_writes=off",
    "wal_level=replica",
    "max_wal_senders=4",
    "wal_receiver_status_interval=1s",
    "wal_retrieve_retry_interval=100ms",
    "autovacuum=off",
)
PATIENCE_SECONDS = 30


def server_port() -> int:
    """A free port below those that the kernel gives to outgoing connections: while a server is down, a connection to
    one of those can be given that very port as its own, and reach itself."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.choice(range(first // 2, first))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Node:
    """A server; `port` is its address on 127.0.0.1."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        self.port = server_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> Node:
        """Start, and wait until it takes connections."""
        self.starts += 1
        options = [part for item in (*OPTIONS, f"port={self.port}") for part in ("-c", item)]
        starting = ("postgres", "-D", str(self.folder), "-k", str(self.folder.parent), *options)
        self._process = self._launch(*starting)
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.ask("SELECT 1")
                return self
            except psycopg.OperationalError:
                assert time.monotonic() < end, "PostgreSQL does not start"
                time.sleep(0.02)
                if self._process.poll() is not None:  # what is left of a killed one is still in its way
                    self._process = self._launch(*starting)

    def ask(self, *statements: str) -> None:
        """Run statements as the administrator, past any proxy."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", autocommit=True, connect_timeout=5
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def wait_for_standby(self) -> None:
        """Wait until a standby confirms what this server writes, synchronously."""
        end = time.monotonic() + PATIENCE_SECONDS
        query = "SELECT application_name, state, sync_state FROM pg_stat_replication"
        where = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        with psycopg.connect(where, autocommit=True, connect_timeout=5) as connection:
            while (rows := connection.execute(query).fetchall()) != [("standby", "streaming", "sync")]:
                assert time.monotonic() < end, f"no synchronous standby: {rows}"
                time.sleep(0.05)

    def reconfigure(self, **options: str) -> None:
        """Change settings of the running server."""
        self.ask(
            *(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in options.items()), "SELECT pg_reload_conf()"
        )

    def kill(self) -> None:
        """SIGKILL to every process of it at once, as when the machine loses its power."""
        assert self._process is not None
        self._signal(signal.SIGSTOP)  # so that it starts none meanwhile
        self._signal(signal.SIGKILL)
        self._process.wait(PATIENCE_SECONDS)
        # What a killed server leaves behind is in the way of the next start until its segment is unused.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether the server has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        """SIGSTOP to every process of it: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`."""
        self._signal(signal.SIGCONT)

    def promote(self) -> None:
        """Make a standby a primary, and wait for it."""
        self.ask("SELECT pg_promote(true, 30)")

    def clone(self) -> Node:
        """A streaming standby of this server, started."""
        node = Node(self.folder.parent / f"standby-{secrets.token_hex(4)}", self.binaries)
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name=standby"
        copying = self._launch(
            "pg_basebackup", "-D", str(node.folder), "-R", "-c", "fast", "-X", "stream", "-d", source
        )
        assert copying.wait(PATIENCE_SECONDS) == 0, "pg_basebackup failed"
        return node.start()

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        # Listed before the first is signalled: the children of a process that was killed are no longer its own.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for item in (self._process.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(item, number)

    def _launch(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        return subprocess.Popen(
            [str(self.binaries / name), *arguments],
            cwd=self.folder.parent,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
        )


@contextmanager
def primary(prepare: Callable[[Path], None] = lambda _: None) -> Iterator[Node]:
    """A started primary with nothing in it; it and its standbys end with the block. `prepare` is called with the path
    of its data folder before there is anything in it."""
    workspace = pg.short_folder()
    nodes: list[Node] = []
    try:
        if os.geteuid() == 0:
            account = pwd.getpwnam("nobody")
            os.chown(workspace, account.pw_uid, account.pw_gid)
        binaries = pg.binaries(workspace, "nobody" if os.geteuid() == 0 else None) / "bin"
        node = _Keeping(workspace / "primary", binaries, nodes)
        prepare(node.folder)
        created = node._launch(
            "initdb", "-D", str(node.folder), "--username=postgres", "--auth=trust", "--no-sync", "--no-instructions",
            "--encoding=UTF8",
        )  # fmt: skip
        assert created.wait(PATIENCE_SECONDS) == 0, "initdb failed"
        yield node.start()
    finally:
        for item in nodes:
            item.close()
        shutil.rmtree(workspace, ignore_errors=True)


class _Keeping(Node):
    """A node that is in a list, with its standbys."""

    def __init__(self, folder: Path, binaries: Path, nodes: list[Node]) -> None:
        super().__init__(folder, binaries)
        self._nodes = nodes
        nodes.append(self)

    def clone(self) -> Node:
        created = super().clone()
        self._nodes.append(created)
        return created
