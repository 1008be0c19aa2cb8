"""`pictures benign`: manage the allowlist of common pictures, which searches ignore."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.operator.server import opened_database
from ledger.cli.tables import Table
from ledger.client import picture_hash
from ledger.errors import InvalidRequest
from ledger.protocol.encoding import format_time

benign = typer.Typer(no_args_is_help=True, help="Manage the allowlist of common pictures (operator).")

PdqOption = Annotated[str | None, typer.Option("--pdq", help="PDQ hash of the picture, 64 hexadecimal digits.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", help="The picture, instead of --pdq; needs the extra `evidence`.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="The reason, which is stored with the picture and in the audit log.")
]


@benign.command("add")
@command
def add(reason: ReasonOption, pdq: PdqOption = None, file: FileOption = None) -> None:
    """Exclude a picture, and pictures that look the same, from all searches."""
    from ledger.server.pictures.benign import add_benign

    bits = _bits(pdq, file)
    with opened_database() as (_, engine):
        add_benign(engine, bits, reason, datetime.now(UTC))
    _done(bits, f"Searches ignore {bits.hex()} and similar pictures from now on.")


@benign.command("remove")
@command
def remove(reason: ReasonOption, pdq: PdqOption = None, file: FileOption = None) -> None:
    """Remove a picture from the allowlist. Searches find reports with it, or with similar pictures, again."""
    from ledger.server.pictures.benign import remove_benign

    bits = _bits(pdq, file)
    with opened_database() as (_, engine):
        remove_benign(engine, bits, reason, datetime.now(UTC))
    _done(bits, f"Searches find {bits.hex()} and similar pictures again.")


@benign.command("list")
@command
def list_all() -> None:
    """List the common pictures, oldest first."""
    from ledger.server.pictures.benign import list_benign

    with opened_database() as (_, engine):
        rows = [
            {"pdq": picture.pdq.hex(), "reason": picture.reason, "added_at": format_time(picture.added_at)}
            for picture in list_benign(engine)
        ]

    def show(console: Console) -> None:
        table = Table("PDQ hash", "reason", "since")
        for row in rows:
            table.add_row(row["pdq"], Text(row["reason"]), row["added_at"])
        console.print(table)

    output.emit({"benign": rows}, show)


def _bits(pdq: str | None, file: Path | None) -> bytes:
    if (pdq is None) == (file is None):
        raise InvalidRequest("Give either --pdq or --file.")
    if file is not None:
        return bytes.fromhex(picture_hash(file).pdq)
    try:
        return bytes.fromhex(pdq or "")
    except ValueError as error:
        raise InvalidRequest("A PDQ hash has 64 hexadecimal digits.") from error


def _done(bits: bytes, sentence: str) -> None:
    output.emit({"pdq": bits.hex()}, lambda console: console.print(sentence))
