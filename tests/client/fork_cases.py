"""Single promises about forks, each tried in a process of its own: `python -m tests.client.fork_cases NAME FOLDER`.

A case that holds prints nothing and ends with 0. It imports the SDK only.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ledger.client.outbox import store as outbox_module
from ledger.client.outbox.store import Outbox
from ledger.client.state import locked
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.forks import ForkLock, Sockets
from ledger.client.transport.http import Transport
from ledger.errors import ConfigurationError, LedgerError, Unavailable
from tests.client.shared_ledger import shared_ledger
from tests.faulty import Proxy, answering, proxy

PATIENCE_SECONDS = 60.0


def child(work: Callable[[], object], fork: Callable[[], int] = os.fork) -> int:
    """Fork; the child does `work` and ends, with 0 unless it raised. Its process id."""
    pid = fork()
    if not pid:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"child: {error!r}\n")
            sys.stderr.flush()
            os._exit(1)
    return pid


def ended_well(pid: int) -> None:
    """Wait for a child, which must end with 0."""
    end = time.monotonic() + PATIENCE_SECONDS
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended:
        assert time.monotonic() < end, "a child hangs"
        time.sleep(0.005)
        ended, status = os.waitpid(pid, os.WNOHANG)
    assert status == 0, status


def error_of(call: Callable[[], object]) -> LedgerError | None:
    """What `call` raises."""
    try:
        call()
    except LedgerError as error:
        return error
    return None


def open_files() -> set[str]:
    """Names of the files that this process has open."""
    names = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            names.add(descriptor.readlink().name)
        except OSError:
            continue
    return names


def held_elsewhere(hold: Callable[[threading.Event, threading.Event], None]) -> Callable[[], None]:
    """Run `hold(is_held, may_go)` in a thread and come back when it is held; the result lets it go and waits."""
    is_held, may_go = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold, args=(is_held, may_go))
    thread.start()
    assert is_held.wait(PATIENCE_SECONDS)

    def let_go() -> None:
        may_go.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()

    return let_go


def a_lock_that_a_thread_held_is_free_in_a_child(folder: Path) -> None:
    lock = ForkLock()

    def hold(is_held: threading.Event, may_go: threading.Event) -> None:
        with lock:
            is_held.set()
            may_go.wait()

    def work() -> None:
        assert lock.acquire(timeout=5)
        lock.release()

    let_go = held_elsewhere(hold)
    ended_well(child(work))
    assert not lock.acquire(blocking=False), "in the parent it is held as before"
    let_go()


def a_child_does_not_keep_a_file_locked(folder: Path) -> None:
    path, go = folder / "checkpoint", folder / "go"

    def hold(is_held: threading.Event, may_go: threading.Event) -> None:
        with locked(path):
            is_held.set()
            may_go.wait()

    def work() -> None:
        assert "checkpoint.lock" not in open_files()
        while not go.exists():  # the child lives on while the parent goes on
            time.sleep(0.01)

    let_go = held_elsewhere(hold)
    pid = child(work)
    let_go()
    with locked(path, wait=False):
        pass
    go.touch()
    ended_well(pid)


def _item(name: str) -> tuple[str, outbox_module.Operation, str, bytes]:
    return (name, "report", "/v1/reports", b"{}")


def an_outbox_is_neither_shared_nor_damaged(folder: Path) -> None:
    path, now = folder / "outbox.db", datetime.now(UTC)
    outbox, stop, written = Outbox(path), threading.Event(), [0, 0]

    def write(place: int) -> None:
        while not stop.is_set():
            outbox.add([_item(f"parent-{place}-{written[place]}")], now)
            written[place] += 1

    def work(number: int) -> None:
        assert not any(name.startswith("outbox.db") for name in open_files())
        outbox.add([_item(f"child-{number}")], now)
        outbox.close()

    threads = [threading.Thread(target=write, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    pids = []
    for number in range(10):
        time.sleep(0.003 * number)  # at another moment of a write each time
        pids.append(child(partial(work, number)))
    for pid in pids:
        ended_well(pid)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert len(outbox.items()) == sum(written) + 10
    outbox.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


_INSERT = (
    "INSERT INTO item (idempotency_key, operation, path, content, added_at) "
    "VALUES ('k', 'report', '/', x'', '2026-01-01T00:00:00Z')"
)


def an_outbox_forked_while_it_was_written_is_refused(folder: Path) -> None:
    outbox_module.FREEZE_SECONDS = 0.05
    outbox, now = Outbox(folder / "outbox.db"), datetime.now(UTC)

    def hold(is_held: threading.Event, may_go: threading.Event) -> None:
        with outbox._writing() as database:
            database.execute(_INSERT)
            is_held.set()
            may_go.wait()

    def work() -> None:
        refused = error_of(lambda: outbox.add([_item("child")], now))
        assert isinstance(refused, ConfigurationError), "a child wrote with what it inherited"
        assert "forked" in str(refused)

    let_go = held_elsewhere(hold)
    ended_well(child(work))
    let_go()
    outbox.delivered(["k"])
    assert outbox.items() == []
    outbox.close()


def a_child_that_closes_leaves_the_parents_connection(folder: Path) -> None:
    with answering(lambda *_: (200, {}, b"{}")) as url, proxy(url) as between:
        transport = Transport(between.url)

        def ask() -> None:
            transport.within(PATIENCE_SECONDS, lambda limit: transport.send("GET", "/x", limit))

        ask()
        assert between.connections == 1
        ended_well(child(transport.close))
        ask()
        assert between.connections == 1, "the parent goes on over its own connection"

        def work() -> None:
            ask()
            transport.close()

        ended_well(child(work))
        assert between.connections == 2, "the child has one of its own"
        ask()
        assert between.connections == 2
        transport.close()
        ended_well(child(lambda: _is_closed(transport)))


def _is_closed(transport: Transport) -> None:
    refused = error_of(lambda: transport.send("GET", "/x", Deadline(1)))
    assert isinstance(refused, Unavailable), "what the parent had closed was open in the child"
    assert refused.details["reason"] == "closed"


@contextmanager
def counting_server() -> Iterator[str]:
    """The URL of a server, in a process of its own, that answers with the number of connections made to it so far."""
    (read_url, write_url), (read_end, write_end) = os.pipe(), os.pipe()

    def serve() -> None:
        os.close(write_end)
        counted: list[Proxy] = []
        with answering(lambda *_: (200, {}, b"%d" % counted[0].connections)) as url, proxy(url) as between:
            counted.append(between)
            os.write(write_url, between.url.encode())
            os.read(read_end, 1)  # until the parent closes its end

    pid = child(serve)
    os.close(read_end)
    os.close(write_url)
    try:
        yield os.read(read_url, 100).decode()
    finally:
        os.close(write_end)
        os.close(read_url)
        ended_well(pid)


def a_fork_that_python_does_not_see_is_noticed(folder: Path) -> None:
    # A thread that waits for the interpreter during such a fork leaves its lock taken in the child: no code can help.
    assert threading.active_count() == 1, "this case must come before those that start threads"
    with counting_server() as url:
        transport, outbox = Transport(url), Outbox(folder / "outbox.db")
        outbox.add([_item("parent")], datetime.now(UTC))

        def connections() -> bytes:
            return transport.send("GET", "/x", Deadline(PATIENCE_SECONDS)).body

        assert connections() == b"1"

        def work() -> None:
            assert connections() == b"2", "the child has a connection of its own"
            outbox.add([_item("child")], datetime.now(UTC))

        ended_well(child(work, ctypes.PyDLL(None).fork))
        assert connections() == b"2", "the parent goes on over its own"
        assert [item.idempotency_key for item in outbox.items()] == ["parent", "child"]
        outbox.close()
        transport.close()


def tls_goes_on_after_a_child_has_dropped_it(folder: Path) -> None:
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, None)
    )  # fmt: skip
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    asking = ssl.create_default_context(cafile=str(pem))

    def echo(listening: socket.socket) -> None:
        with serving.wrap_socket(listening.accept()[0], server_side=True) as tls:
            while data := tls.recv(100):
                tls.sendall(data)

    sockets = Sockets()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=echo, args=(listening,), daemon=True).start()
        plain = socket.create_connection(listening.getsockname(), timeout=PATIENCE_SECONDS)
        with asking.wrap_socket(plain, server_hostname="localhost") as tls:
            sockets.add(tls)
            for number in range(3):
                ended_well(child(lambda: _is_dropped(tls)))
                tls.sendall(b"still here %d" % number)
                assert tls.recv(100) == b"still here %d" % number


def a_child_asks_key_holders_by_itself(folder: Path) -> None:
    """Also one that is forked while threads of the parent wait for a silent holder."""
    people = [{"device": f"device-{number:012d}"} for number in range(5)]
    with shared_ledger(folder) as shared:
        shared.group[0].be_silent()
        truth = [shared.buyer(person) for person in people]
        acme = shared.connect(subject_budget_seconds=PATIENCE_SECONDS / 4)
        before = acme.tag(**people[0])
        assert before == truth[0]

        def work(number: int) -> None:
            assert acme.tag(**people[number]) == truth[number]
            acme.close()
            refused = error_of(lambda: acme.tag(device="device-9123456789abcdef"))
            assert isinstance(refused, Unavailable), "closed"

        for number in (1, 2, 3):
            ended_well(child(partial(work, number)))
        assert acme.tag(**people[4]) == truth[4], "the parent goes on"
        acme.close()


def _is_dropped(connection: ssl.SSLSocket) -> None:
    assert connection.fileno() == -1


CASES = {
    case.__name__: case
    for case in (
        a_fork_that_python_does_not_see_is_noticed,
        a_lock_that_a_thread_held_is_free_in_a_child,
        a_child_does_not_keep_a_file_locked,
        an_outbox_is_neither_shared_nor_damaged,
        an_outbox_forked_while_it_was_written_is_refused,
        a_child_that_closes_leaves_the_parents_connection,
        tls_goes_on_after_a_child_has_dropped_it,
        a_child_asks_key_holders_by_itself,
    )
}


def main() -> None:
    """Run the named cases, all if none is named; the folder comes first."""
    for name in sys.argv[2:] or CASES:
        folder = Path(sys.argv[1]) / name
        folder.mkdir()
        CASES[name](folder)


if __name__ == "__main__":
    main()
