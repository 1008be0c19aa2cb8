"""`verify`: anybody's check of the whole log, its receipts, and that it tells everyone the same history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.cli import output
from ledger.cli.output import JsonFlag, guarded
from ledger.client.log import Fetch, LogReport, compare_views, fetch_checkpoint, verify_log
from ledger.client.state import CHECKPOINT_FILE, SeenCheckpoint, default_state_dir, log_label, state_home
from ledger.client.suite import Suite, load_suite
from ledger.client.transport import Transport
from ledger.core.checkpoint import parse, parse_verifier_key
from ledger.errors import ConfigurationError, InvalidRequest

FETCH_SECONDS = 30.0
ATTEMPT_SECONDS = 10.0


@guarded
def verify(
    url: Annotated[str | None, typer.Argument(help="The ledger's address. (default: the suite's)")] = None,
    suite: Annotated[
        Path | None, typer.Option("--suite", envvar="REFUND_LEDGER_SUITE", help="Suite file with the pinned log key.")
    ] = None,
    log_key: Annotated[
        str | None, typer.Option("--log-key", help="The log's verifier key, instead of --suite.")
    ] = None,
    receipts: Annotated[
        list[Path] | None, typer.Option("--receipt", help="A receipt whose entry must be there.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="File with the last checkpoint seen. (default: XDG state)")
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", help="Another view: a checkpoint file, or the address of a mirror.")
    ] = None,
    insecure_http: Annotated[bool, typer.Option("--insecure-http", help="Allow http to other machines.")] = False,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout-seconds", min=0.1, help="For each part of the log.")
    ] = 30.0,
    json_output: JsonFlag = False,
) -> None:
    """Recompute the log from its entries and check everything against its key. Exit 1 when anything is false."""
    pinned = None if suite is None else load_suite(suite)
    key = log_key or (pinned.pinned.log_key if pinned else None)
    address = url or (pinned.url if pinned else None)
    if key is None or address is None:
        raise InvalidRequest("Give --suite, or the address and --log-key: a log cannot vouch for its own key.")
    origin, public_key = parse_verifier_key(key)
    seen = SeenCheckpoint(state or seen_file(pinned, key), origin, public_key)
    texts = [_read(path) for path in receipts or ()]
    transport = Transport(address, insecure_http=insecure_http)
    try:
        fetch = log_fetch(transport, address, timeout_seconds)
        with _Bar() as progress:
            report = verify_log(fetch, origin, public_key, seen.note(), receipts=texts, progress=progress)
        compared = None if compare is None else _compare(compare, report.note, fetch, origin, public_key, insecure_http)
        seen.accept(report.note, fetch)
    finally:
        transport.close()
    _show(report, compared, len(texts))


def seen_file(pinned: Suite | None, key: str) -> Path:
    """Where the last checkpoint seen is kept by default: with a suite, that of the SDK."""
    if pinned is not None:
        return default_state_dir(pinned) / CHECKPOINT_FILE
    return state_home() / "logs" / f"{parse_verifier_key(key)[0].replace('/', '-')}-{log_label(key)}"


def log_fetch(transport: Transport, address: str, timeout_seconds: float = FETCH_SECONDS) -> Fetch:
    """Reads resources below the log's prefix: `<address>/log/`, or `<address>/` when it names the log itself."""
    prefix = "" if urlsplit(address).path.rstrip("/").endswith("/log") else "/log"

    def fetch(path: str) -> bytes:
        return transport.retrying(
            timeout_seconds, lambda limit: transport.send("GET", f"{prefix}/{path}", limit).body, ATTEMPT_SECONDS
        )

    return fetch


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read.") from error


def _compare(other: str, note: str, fetch: Fetch, origin: str, public_key: bytes, insecure_http: bool) -> int:
    """The size up to which the other view is the same; see `compare_views` for what is raised."""
    if not other.startswith(("http://", "https://")):
        return compare_views(note, _read(Path(other)), fetch, origin, public_key).older.size
    mirror = Transport(other, insecure_http=insecure_http)
    try:
        mirrored = log_fetch(mirror, other)
        theirs = fetch_checkpoint(mirrored)
        # The side with the longer log has the tiles that decide it.
        longer = mirrored if parse(theirs)[0].size > parse(note)[0].size else fetch
        return compare_views(note, theirs, longer, origin, public_key).older.size
    finally:
        mirror.close()


class _Bar:
    """A bar on standard error while a large log is read; nothing with `--json` or without a terminal."""

    def __enter__(self) -> Callable[[int, int], None] | None:
        terminal = output.messages()
        self._bar: Progress | None = None
        if output.json_asked() or not terminal.is_terminal:
            return None
        columns = (TextColumn("verifying entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=terminal, transient=True)
        self._bar.start()
        task = self._bar.add_task("entries", total=None)
        bar = self._bar
        return lambda done, total: bar.update(task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _show(report: LogReport, compared: int | None, receipts_count: int) -> None:
    checkpoint = report.checkpoint
    facts = {
        "verified": True,
        "log": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "events": report.events_count,
        "governance_entries": report.entries_count - report.events_count,
        "tiles": report.tiles_count,
        "last_seen_size": report.last_seen_size,
        "receipts": receipts_count,
        "same_as_other_view_up_to": compared,
    }

    def show(console: Console) -> None:
        console.print("[bold green]The log is what it signed.[/]")
        console.print(output.fields({name: value for name, value in facts.items() if value is not None}))

    output.emit(facts, show)
