"""`pictures search`: was a picture of a claim used in confirmed reports before?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ledger.cli import options, output
from ledger.cli.options import KeyOption, StateOption, SuiteOption
from ledger.cli.output import JsonFlag, guarded
from ledger.cli.tables import Table
from ledger.client import PictureHash, PictureReuse, picture_hash
from ledger.errors import InvalidRequest
from ledger.rules.pictures import MAX_DISTANCE, distance

pictures = typer.Typer(no_args_is_help=True, help="Pictures that were used in confirmed reports.")


@pictures.command("search")
@guarded
def search(
    suite: SuiteOption,
    key: KeyOption,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Pictures of one claim; only their perceptual hashes are sent.")
    ] = None,
    order: Annotated[str | None, typer.Option("--order", help="Your order number; only its HMAC is sent.")] = None,
    report: Annotated[
        str | None, typer.Option("--report", help="Instead of files: a report of yours, for its own pictures.")
    ] = None,
    listing: Annotated[
        list[Path] | None,
        typer.Option("--listing", help="The merchant's own photo: a picture that looks the same is marked."),
    ] = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Ask in how many confirmed reports of others these pictures, or ones that look the same, were used. A hit is a
    reason to look closer, never one to refuse."""
    if bool(files) == (report is not None) or (files and order is None) or (report is not None and listing):
        raise InvalidRequest("Give either files and --order, or --report.")
    hashes = [picture_hash(path) for path in files or ()]
    known = [picture_hash(path) for path in listing or ()]
    with options.open_ledger(suite, key, state_dir) as ledger:
        if report is not None:
            found = ledger.report_pictures(report)
        else:
            found = ledger.search_pictures(hashes, order=order or "")
    rows = [_row(hashes[place] if hashes else None, one, known) for place, one in enumerate(found)]
    output.emit({"results": rows}, lambda console: console.print(_table([str(path) for path in files or ()], rows)))


def _row(asked: PictureHash | None, found: PictureReuse, known: list[PictureHash]) -> dict[str, Any]:
    if asked is None:
        return asdict(found)
    bits = bytes.fromhex(asked.pdq)
    like = any(distance(bits, bytes.fromhex(one.pdq)) <= MAX_DISTANCE for one in known)
    return {**asdict(asked), **asdict(found), **({"like_listing": like} if known else {})}


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
        return "a picture that anybody may have"
    return "looks like the listing photo: a hit says nothing" if row.get("like_listing") else ""
