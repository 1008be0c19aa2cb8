"""`verify`: check the whole log, receipts of entries, and that other views of the log show the same history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ledger.cli import options, output
from ledger.cli.decorator import command
from ledger.client.identity.keyfiles import load_public_keys
from ledger.client.identity.suite import Suite
from ledger.client.state import CHECKPOINT_FILE, SeenCheckpoint, default_state_dir, log_label, state_home
from ledger.client.transport.budgets import Deadline
from ledger.client.transport.http import Transport
from ledger.client.verify.local_text import kept_text
from ledger.client.verify.log import Fetch, LogReport, compare_views, fetch_checkpoint, verify_log
from ledger.client.verify.receipts import OfflineReceipt, check_offline
from ledger.errors import ConfigurationError, InvalidRequest, NotFound, ProofError, Unavailable
from ledger.tlog.checkpoint import parse, parse_verifier_key

FETCH_SECONDS = 30.0
ATTEMPT_SECONDS = 10.0
_GONE = (404, 410)


@command
def verify(
    url: Annotated[str | None, typer.Argument(help="The ledger's address. (default: the suite's)")] = None,
    suite: Annotated[
        Path | None, typer.Option("--suite", help="Suite file with the pinned log key. (or $REFUND_LEDGER_SUITE)")
    ] = None,
    log_key: Annotated[
        str | None, typer.Option("--log-key", help="The log's verifier key, instead of --suite.")
    ] = None,
    receipts: Annotated[
        list[Path] | None,
        typer.Option(
            "--receipt", help="A receipt whose entry must be in the log, or a folder of receipts. Repeat for more."
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Check only the receipts, without network access: keys and signed checkpoints."),
    ] = False,
    platform_key: Annotated[
        Path | None, typer.Option("--platform-key", help="With --offline: the reporting platform's public keys (PEM).")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="File with the last checkpoint that was seen. (default: XDG state)")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option("--compare", help="Compare with another view: a checkpoint file, or the address of a mirror."),
    ] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Allow http to addresses on other machines.")
    ] = False,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout-seconds", min=0.1, help="Time limit for each file of the log.")
    ] = 30.0,
) -> None:
    """Recompute the log from its entries and verify it against its key. Exit 1 if a check fails."""
    pinned = options.pinned_suite(suite)
    key = log_key or (pinned.pinned.log_key if pinned else None)
    if offline:
        _verify_offline(key, receipts or [], platform_key)
        return
    address = url or (pinned.url if pinned else None)
    if key is None or address is None:
        raise InvalidRequest("Give --suite, or the address and --log-key: a log cannot prove its own key.")
    origin, public_key = parse_verifier_key(key)
    seen = SeenCheckpoint(state or seen_file(pinned, key), origin, public_key)
    texts = [_read(path) for path in _files(receipts or [])]
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


def _verify_offline(key: str | None, receipts: list[Path], platform_key: Path | None) -> None:
    if key is None or not receipts:
        raise InvalidRequest("--offline needs --receipt, and --suite or --log-key: a receipt cannot prove its key.")
    origin, log_public = parse_verifier_key(key)
    signers = () if platform_key is None else load_public_keys(platform_key)
    proofs = []
    for path in _files(receipts):
        try:
            proofs.append(_facts(path, check_offline(_read(path), origin, log_public, signers), bool(signers)))
        except ProofError as error:
            error.details["receipt"] = path.name
            raise

    def show(console: Console) -> None:
        console.print(f"[bold green]The entries of these receipts are in what the log signed: {len(proofs)}.[/]")
        for proof in proofs:
            console.print(output.fields({name: value for name, value in proof.items() if name != "body"}))

    output.emit({"verified": True, "offline": True, "log": origin, "receipts": proofs}, show)


def _facts(path: Path, receipt: OfflineReceipt, signer_known: bool) -> dict[str, Any]:
    """Return what a receipt proves, with the signed body if the receipt contains it."""
    entry = receipt.entry
    facts: dict[str, Any] = {
        "file": path.name,
        "entry_index": receipt.index,
        "hour": receipt.hour,
        "log_size": receipt.checkpoint.size,
        "opened": entry is not None,
    }
    if entry is None:
        return facts
    members = {name: entry.get(name) for name in ("id", "platform", "recorded_at", "body")}
    return {**facts, "signed_by_platform_key": signer_known, **members}


def _files(paths: list[Path]) -> list[Path]:
    """Return the files of `paths`, with the files in folders, sorted by name. Raises InvalidRequest for an empty
    folder."""
    files: list[Path] = []
    for path in paths:
        within = sorted(path.iterdir()) if path.is_dir() else [path]
        if not within:
            raise InvalidRequest(f"There is no receipt in {path.name}.")
        files += within
    return files


def seen_file(pinned: Suite | None, key: str) -> Path | None:
    """Return the default file of the last checkpoint seen: with a suite that of the SDK. None without a home folder."""
    if pinned is not None:
        folder = default_state_dir(pinned)
        return folder and folder / CHECKPOINT_FILE
    home = state_home()
    return home and home / "logs" / f"{parse_verifier_key(key)[0].replace('/', '-')}-{log_label(key)}"


def log_fetch(transport: Transport, address: str, timeout_seconds: float = FETCH_SECONDS) -> Fetch:
    """Return a function that fetches a resource of the log: from `<address>/log/`, or from `<address>/` if the address
    ends in `/log`.

    The function raises NotFound if the log does not have the resource, Unavailable if it cannot be reached.
    """
    prefix = "" if urlsplit(address).path.rstrip("/").endswith("/log") else "/log"

    def fetch(path: str) -> bytes:
        def attempt(limit: Deadline) -> bytes:
            try:
                return transport.send("GET", f"{prefix}/{path}", limit).body
            except Unavailable as error:
                if (
                    error.details.get("status") in _GONE
                ):  # a mirror of plain files answers 404 without a problem document
                    raise NotFound("The log has no such resource.") from error
                raise

        return transport.retrying(timeout_seconds, attempt, ATTEMPT_SECONDS)

    return fetch


def _read(path: Path) -> str:
    try:
        return kept_text(path.read_bytes())
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read.") from error


def _compare(other: str, note: str, fetch: Fetch, origin: str, public_key: bytes, insecure_http: bool) -> int:
    """Return the size up to which the other view is the same. Raises the errors of `compare_views`."""
    if not other.startswith(("http://", "https://")):
        return compare_views(note, _read(Path(other)), fetch, origin, public_key).older.size
    mirror = Transport(other, insecure_http=insecure_http)
    try:
        mirrored = log_fetch(mirror, other)
        theirs = fetch_checkpoint(mirrored)
        # Only the longer log has the tiles that prove or refute the comparison.
        longer = mirrored if parse(theirs)[0].size > parse(note)[0].size else fetch
        return compare_views(note, theirs, longer, origin, public_key).older.size
    finally:
        mirror.close()


class _Bar:
    """Show a progress bar on standard error while a log is read; nothing with `--json` or without a terminal."""

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
        "unknown_entries": dict(report.unknown_sorts),
        "key_sharings": report.sharings_count,
        "tiles": report.tiles_count,
        "last_seen_size": report.last_seen_size,
        "receipts": receipts_count,
        "same_as_other_view_up_to": compared,
    }

    def show(console: Console) -> None:
        console.print("[bold green]The log agrees with its signed checkpoint.[/]")
        shown = {name: value for name, value in facts.items() if value is not None and name != "unknown_entries"}
        if report.unknown_sorts:
            shown["not read"] = ", ".join(f"{count} of type {sort}" for sort, count in report.unknown_sorts.items())
            shown["note"] = "entries of a later version: verified as entries, but their content is not read"
        console.print(output.fields(shown))

    output.emit(facts, show)
