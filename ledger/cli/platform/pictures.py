"""`pictures search`: search confirmed reports for the pictures of a claim."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.options import LedgerOptions
from ledger.cli.tables import Table
from ledger.client import PictureHash, PictureReuse, picture_hash
from ledger.errors import InvalidRequest
from ledger.rules.pictures import MAX_DISTANCE, distance

pictures = typer.Typer(no_args_is_help=True, help="Search for pictures that were used in confirmed reports.")


@pictures.command("search")
@command
def search(
    account: LedgerOptions,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Pictures of one claim; only their perceptual hashes are sent.")
    ] = None,
    order: Annotated[str | None, typer.Option("--order", help="Your order number; only its HMAC is sent.")] = None,
    report: Annotated[
        str | None, typer.Option("--report", help="Search for the pictures of this report of yours, instead of files.")
    ] = None,
    listing: Annotated[
        list[Path] | None,
        typer.Option(
            "--listing", help="The merchant's own photo. A picture that looks the same is marked in the result."
        ),
    ] = None,
) -> None:
    """Count the confirmed reports of other members in which these pictures, or similar ones, were used. A match is a
    reason for a closer look, never a reason to refuse."""
    if bool(files) == (report is not None) or (files and order is None) or (report is not None and listing):
        raise InvalidRequest("Give either files and --order, or --report.")
    hashes = [picture_hash(path) for path in files or ()]
    known = [picture_hash(path) for path in listing or ()]
    with account.open() as ledger:
        if report is not None:
            reuses = ledger.pictures.for_report(report)
        else:
            reuses = ledger.pictures.search(hashes, order=order or "")
    rows = [_row(hashes[place] if hashes else None, reuse, known) for place, reuse in enumerate(reuses)]
    output.emit({"results": rows}, lambda console: console.print(_table([str(path) for path in files or ()], rows)))


def _row(picture: PictureHash | None, reuse: PictureReuse, known: list[PictureHash]) -> dict[str, Any]:
    if picture is None:
        return asdict(reuse)
    bits = bytes.fromhex(picture.pdq)
    like = any(distance(bits, bytes.fromhex(listing.pdq)) <= MAX_DISTANCE for listing in known)
    return {**asdict(picture), **asdict(reuse), **({"like_listing": like} if known else {})}


def _table(names: list[str], rows: list[dict[str, Any]]) -> Table:
    table = Table("picture", "reports of others", "by platforms", "your own reports", "note")
    for number, row in enumerate(rows):
        more = "+" if row["more"] else ""
        counts = ("-",) * 3 if row["common"] else (f"{row['reports']}{more}", row["platforms"], row["own_reports"])
        name = Text(names[number] if names else str(number + 1))
        table.add_row(name, *map(str, counts), _note(row))
    return table


def _note(row: dict[str, Any]) -> str:
    if row["common"]:
        return "a common picture: a match is not evidence"
    return "looks like the listing photo: a match is not evidence" if row.get("like_listing") else ""
