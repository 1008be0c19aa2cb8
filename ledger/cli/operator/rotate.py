"""`rotate`: the operator's key rotation, stage by stage."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.operator.keys import CardFiles
from ledger.cli.operator.server import opened_database
from ledger.cli.progress import stage_bars
from ledger.cli.tables import Table
from ledger.errors import InvalidRequest, RotationRefused
from ledger.protocol.encoding import b64url, format_time
from ledger.protocol.public_ids import encode_id

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ledger.server.keys.epochs import EpochRow
    from ledger.server.reports.malformed import MalformedReport
    from ledger.server.rotation.announce import RotationFiles
    from ledger.server.rotation.run import EpochStatus, Switched
    from ledger.server.settings import Settings

STATEMENT_TIMEOUT_MS = 10 * 60 * 1000
"""Time limit of a statement, in ms. The switch reads all subjects, and all listings, in one statement each."""

_STAGES = {
    "announce": "announcing the next epoch",
    "fill": "converting elements",
    "prove": "writing proofs",
    "switch": "switching",
    "retire": "retiring",
    "destroy": "destroying the old epoch",
}
_CONFIDENTIAL = (
    "The files contain elements and salts: they are as confidential as the database. Give them only to the auditor, "
    "encrypted. Erasure does not delete copies on other machines; retirement deletes the files on this machine."
)

_MALFORMED = (
    "Reports whose subject is not encoded canonically. No software of this project produces such an encoding: ask the "
    "platform. Servers withdraw these reports automatically, and `rotate` withdraws them before it starts."
)


def _now() -> datetime:
    return datetime.now(UTC)


@command
def rotate(
    audit_dir: Annotated[
        Path | None,
        typer.Option("--audit-dir", help="Folder of the files for the auditor. (default: beside the key folder)"),
    ] = None,
    grace_days: Annotated[
        int,
        typer.Option(
            "--grace-days", min=1, max=366, help="How many days lookups under the old epoch are still answered."
        ),
    ] = 30,
    announce_only: Annotated[
        bool,
        typer.Option(
            "--announce-only", help="Only announce the new epoch, so that platforms can tag their users in advance."
        ),
    ] = False,
    retire: Annotated[
        bool, typer.Option("--retire", help="Retire the old epoch. Servers do this when the grace period ends.")
    ] = (False),
    now: Annotated[bool, typer.Option("--now", help="With --retire: before the grace period has ended.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --now: do not ask for confirmation.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show the progress of the rotation, and change nothing.")
    ] = False,
    card: CardFiles = None,
    certificate: Annotated[
        list[Path] | None,
        typer.Option(
            "--certificate", help="Where several holders share the key: the certificate file of each holder's rotation."
        ),
    ] = None,
) -> None:
    """Rotate the OPRF key: announce the new epoch, convert every element, write proofs, switch. After a crash, run it
    again: it continues. Where several holders share the key, give their cards and certificates of the rotation."""
    if sum((announce_only, retire, status)) > 1 or (now and not retire):
        raise InvalidRequest("Choose one of --announce-only, --retire and --status; --now needs --retire.")
    if bool(card) != bool(certificate) or (card and (retire or status)):
        raise InvalidRequest("--card and --certificate belong together, and to the announcement of an epoch.")
    files = _read_files(card or [], certificate or []) if card else None
    with opened_database(statement_timeout_ms=STATEMENT_TIMEOUT_MS, pool_size=2) as (settings, engine):
        if status:
            _show_status(settings, engine)
        elif retire:
            _retire(settings, engine, now, yes)
        elif announce_only:
            _announce(settings, engine, files)
        else:
            _rotate(settings, engine, grace_days, audit_dir, files)


def _read_files(cards: list[Path], certificates: list[Path]) -> RotationFiles:
    from ledger.server.keys.cards import read_cards, read_limited
    from ledger.server.rotation.announce import RotationFiles
    from ledger.tlog.ceremony_files import MAX_CEREMONY_FILE_BYTES

    texts = tuple([read_limited(path, MAX_CEREMONY_FILE_BYTES) for path in certificates])
    return RotationFiles(read_cards(cards), texts)


def _announce(settings: Settings, engine: Engine, files: RotationFiles | None) -> None:
    from ledger.server.keys.factors import factor_path
    from ledger.server.keys.files import oprf_path
    from ledger.server.rotation.run import announce

    with stage_bars(_STAGES) as progress:
        row = announce(settings, engine, _now(), progress, files)
    key = factor_path(settings, row.epoch) if row.is_shared else oprf_path(settings, row.epoch)
    output.emit(
        {"epoch": row.epoch, "entry_index": row.entry_index, "key_file": str(key)},
        lambda console: console.print(
            f"Epoch {row.epoch} is announced in entry {row.entry_index}; platforms can tag their users under it. Copy "
            f"{key} to the key folder of every API host before you run `refund-ledger rotate`."
        ),
    )


def _rotate(
    settings: Settings, engine: Engine, grace_days: int, audit_dir: Path | None, files: RotationFiles | None
) -> None:
    from ledger.server.rotation.run import rotate

    with stage_bars(_STAGES) as progress:
        switched = rotate(
            settings, engine, _now, grace_days=grace_days, folder=audit_dir, progress=progress, files=files
        )
    value = _switched(switched)

    def show(console: Console) -> None:
        console.print(output.fields(value))
        console.print(_CONFIDENTIAL)

    output.emit(value, show)


def _switched(switched: Switched) -> dict[str, Any]:
    return {
        "from": switched.old_epoch,
        "to": switched.new_epoch,
        "entry_index": switched.entry_index,
        "elements": switched.elements,
        "root": b64url(switched.root),
        "grace_until": format_time(switched.grace_until),
        "audit_dir": str(switched.audit_dir),
    }


def _retire(settings: Settings, engine: Engine, now: bool, yes: bool) -> None:
    from ledger.server.db.engine import reading
    from ledger.server.keys.epochs import only, read_epochs
    from ledger.server.rotation.retire import destroy_settled, retire, unsettled

    if now and not yes:
        if output.json_asked():
            raise InvalidRequest("With --json, --now needs --yes.")
        typer.confirm(
            "Platforms that use the old epoch are refused until they have tagged their users again. Continue?",
            abort=True,
        )
    with reading(engine) as connection:
        waiting = only(read_epochs(connection), "previous") is not None
    with stage_bars(_STAGES) as progress:
        retired = retire(settings, engine, _now, early=now, progress=progress) if waiting else None
        destroyed = destroy_settled(settings, engine, _now, progress)
        with reading(engine) as connection:
            until = unsettled(read_epochs(connection), settings, _now())
    if retired is None and not destroyed and until is None:
        raise RotationRefused(
            "No epoch is waiting to be retired, and no data of an earlier one is left on this machine."
        )
    value = {
        "retired": None if retired is None else retired.epoch,
        "destroyed": destroyed,
        "destroy_from": None if until is None else format_time(until),
    }

    def show(console: Console) -> None:
        if retired is not None:
            console.print(f"Epoch {retired.epoch} is retired: requests under it are refused.")
        for epoch in destroyed:
            console.print(
                f"Listings, subjects, snapshots, audit files and key of epoch {epoch} are deleted on this machine."
            )
        if until is not None:
            console.print(
                f"Its remaining data can be deleted from {format_time(until)} on, when every process has seen the "
                "retirement. The servers do this automatically, or run this command again."
            )

    output.emit(value, show)


def _show_status(settings: Settings, engine: Engine) -> None:
    from ledger.server.reports.malformed import malformed_reports
    from ledger.server.rotation.run import status

    rows = [_epoch(epoch) for epoch in status(settings, engine)]
    malformed = [_malformed(settings, report) for report in malformed_reports(engine)]

    def show(console: Console) -> None:
        table = Table("epoch", "state", "holders", "generation", "subjects", "grace until", "retired", "key here")
        for row in rows:
            names = ("epoch", "state", "held_by", "generation", "subjects", "grace_until", "retired_at", "key_here")
            values = [row[name] for name in names]
            table.add_row(*["" if value is None else str(value) for value in values])
        console.print(table)
        if malformed:
            console.print(_MALFORMED)
            reports = Table("report", "platform", "recorded", "taken back")
            for row in malformed:
                reports.add_row(row["report"], row["platform"], row["recorded_at"], str(row["taken_back"]))
            console.print(reports)

    output.emit({"epochs": rows, "malformed_reports": malformed}, show)


def _malformed(settings: Settings, report: MalformedReport) -> dict[str, Any]:
    return {
        "report": encode_id("rp", report.report_id, settings.service),
        "platform": report.platform,
        "recorded_at": format_time(report.recorded_at),
        "taken_back": report.taken_back,
    }


def _epoch(status: EpochStatus) -> dict[str, Any]:
    row = status.row
    return {
        "epoch": row.epoch,
        "state": row.state,
        "generation": row.generation,
        "threshold": row.threshold,
        "held_by": _held_by(row),
        "holders": [
            {"id": holder.holder, "index": holder.index, "organisation": holder.organisation, "url": holder.url}
            for holder in row.holders
        ],
        "subjects": status.subjects,
        "entry_index": row.entry_index,
        "switch_index": row.switch_index,
        "grace_until": None if row.grace_until is None else format_time(row.grace_until),
        "retired_at": None if row.retired_at is None else format_time(row.retired_at),
        "key_here": status.key_here,
    }


def _held_by(row: EpochRow) -> str:
    """Return who has the key of an epoch, in a few words."""
    if not row.is_shared:
        return f"1 of 1: {row.holder}"
    named = ", ".join([holder.holder for holder in row.holders])
    return f"{row.threshold} of {len(row.holders)}: {named}" if named else f"threshold {row.threshold}"
