"""`tag`: turn identifiers into the tags by which they are looked up, for one person or a whole user base."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from ledger.cli import output, streams
from ledger.cli.decorator import command
from ledger.cli.exit_codes import ExitCode
from ledger.cli.options import LedgerOptions, PersonOptions, TableOptions
from ledger.cli.tables import Table
from ledger.client import Buyer, RefundLedger, buyers
from ledger.client.tables import tagging as client_tagging
from ledger.client.tables.customers import Customers, open_customers
from ledger.client.tables.output import encode_rows
from ledger.client.tables.tagging import Tagging, tag_customers, tag_file
from ledger.errors import InvalidRequest

PROGRESS_SECONDS = 30.0
"""Seconds between two lines of progress without a terminal."""


@command
def tag(
    account: LedgerOptions,
    person: PersonOptions,
    table_options: TableOptions,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            help="A table with one person a row: identifiers become tags, --id and --keep are copied. - is stdin.",
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--in", help="A table of a whole user base, with columns named after kinds. Can be resumed."),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option("--out", help="With --in: the output, one row for each identifier (id, kind, epoch, tag, error)."),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id", help="The column to copy as the id. (default: the first column that is not a kind)"),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="With --csv: another column to copy. Repeat for more.")
    ] = None,
    not_identifiers: Annotated[
        list[str] | None,
        typer.Option("--not-identifiers", help="A copied column whose cells look like identifiers but are not."),
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", help="With --in: write the places of malformed identifiers (line, id, kind, code)."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="With --in: wait for the next day when the daily quota is used up.")
    ] = False,
    epoch: Annotated[
        Literal["current", "next"],
        typer.Option("--epoch", help="next: tag under an announced key epoch before it is in use."),
    ] = "current",
) -> None:
    """Blind identifiers and print the tags by which they are looked up. Prefer files: options can be seen in the
    process list.

    Exit 2 also if more than half of the identifiers of a kind are malformed.
    """
    identifiers = person.identifiers()
    if [bool(identifiers), csv_file is not None, source is not None].count(True) != 1 or (source is None) != (
        target is None
    ):
        raise InvalidRequest("Give identifiers, or --csv, or --in with --out.")
    if keep and csv_file is None:
        raise InvalidRequest("--keep needs --csv; --in copies only the column --id.")
    form = table_options.format()
    trusted = not_identifiers or []
    with account.open() as ledger:
        if source is not None and target is not None:
            with _progress() as progress:
                tagging = tag_file(
                    ledger, source, target, errors=errors, id_column=id_column, region=person.region, epoch=epoch,
                    wait=wait, form=form, not_identifiers=trusted, progress=progress,
                )  # fmt: skip
            _show_tagging(tagging, target, person.region)
        elif csv_file is not None:
            with open_customers(
                streams.source(csv_file), form, id_column=id_column, keep=keep or [], not_identifiers=trusted,
                tag_columns=True,
            ) as customers:  # fmt: skip
                _tag_rows(ledger, customers, person.region, epoch)
        else:
            _show_tags(buyers(ledger.tag_many([identifiers], region=person.region, epoch=epoch))[0])


@contextmanager
def _progress() -> Iterator[client_tagging.Progress | None]:
    """Show progress on standard error: a bar, or without a terminal a line every PROGRESS_SECONDS; nothing with
    `--json`."""
    terminal = output.messages()
    if output.json_asked():
        yield None
        return
    if not terminal.is_terminal:
        yield progress_lines(terminal.print, time.monotonic)
        return
    columns = (TextColumn("tagging"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[identifiers]:,}"))
    with Progress(*columns, TextColumn("identifiers"), TimeRemainingColumn(), console=terminal, transient=True) as bar:
        task = bar.add_task("tagging", total=None, identifiers=0)

        def show(read: int, total: int, done: Tagging) -> None:
            bar.update(task, completed=read, total=total, identifiers=done.identifiers)

        yield show


def progress_lines(
    say: Callable[[str], None], clock: Callable[[], float], seconds: float = PROGRESS_SECONDS
) -> client_tagging.Progress:
    """Return a callback that prints a line of progress at most every `seconds`. `clock` returns seconds."""
    last = clock()

    def show(read: int, total: int, done: Tagging) -> None:
        nonlocal last
        if clock() - last >= seconds:
            last = clock()
            percent = 100 * read // total if total else 100
            say(f"tagging: {percent} % read, {done.identifiers:,} identifiers, {done.invalid:,} malformed")

    return show


def _show_tagging(tagging: Tagging, target: Path, region: str | None) -> None:
    """Print the summary. Exits with 1 if the quota ended the run, with 2 if most identifiers of a kind are
    malformed."""
    advice = _advice(tagging, region)

    def show(console: Console) -> None:
        if not tagging.finished:
            hours = -(-(tagging.retry_after_seconds or 0) // 3600)
            console.print(
                f"The daily quota is used up after {tagging.identifiers:,} identifiers. Run the same command again "
                f"after midnight UTC (in about {hours} h), or when the key holders (with one holder: the operator) "
                "have granted more: it continues from there."
            )
        facts = {
            "identifiers": f"{tagging.identifiers:,}",
            "malformed": f"{tagging.invalid:,}",
            "tagged before": f"{tagging.resumed:,}",
            "key epoch": tagging.epoch,
            "file": target,
        }
        console.print(output.fields(facts))

    with streams.writing():
        output.emit(asdict(tagging) | {"mostly_malformed": list(tagging.mostly_malformed), "advice": advice}, show)
    for line in advice:
        output.messages().print(f"warning: {line}", markup=False, soft_wrap=True)
    if advice:
        raise typer.Exit(int(ExitCode.USAGE))
    if not tagging.finished:
        raise typer.Exit(int(ExitCode.REFUSED))


def _advice(tagging: Tagging, region: str | None) -> list[str]:
    """Return a warning for each kind whose identifiers are mostly malformed."""
    return [
        f"{tagging.invalid_by_kind[kind]:,} of {tagging.identifiers_by_kind[kind]:,} identifiers of kind {kind} are "
        f"malformed. {_likely_cause(kind, region)} Then tag into a new file."
        for kind in tagging.mostly_malformed
    ]


def _likely_cause(kind: str, region: str | None) -> str:
    if kind == "phone" and region is None:
        return "Numbers without + and country code need --region, such as --region CN."
    if kind == "phone":
        return f"Is {region} the country of these numbers (--region)?"
    return f"Does the column contain something other than {kind} (--column)?"


def _show_tags(buyer: Buyer) -> None:
    tags = [{"kind": kind, "tag": text} for kind, text in buyer.tags()]

    def show(console: Console) -> None:
        table = Table("kind", "tag")
        for kind, text in buyer.tags():
            table.add_row(kind, text)
        console.print(table)

    with streams.writing():
        output.emit({"epoch": buyer.epoch, "tags": tags}, show)


def _tag_rows(
    ledger: RefundLedger, customers: Customers, region: str | None, epoch: Literal["current", "next"]
) -> None:
    """Print the copied columns and the tags as CSV in UTF-8. Rows without an identifier have empty tags."""
    number = ledger.tagging_epoch(epoch)
    copied = customers.copied
    names = [customers.table.names[place] for place in copied]
    kinds = [kind for _, kind in customers.kinds]
    header = [*names, *(f"{kind}_tag" for kind in kinds)]
    rows = [
        [*(cells[place] for place in copied), *(tags.get(kind, "") for kind in kinds)]
        for cells, tags in tag_customers(ledger, customers, region=region, epoch=number)
    ]
    if output.json_asked():
        with streams.writing():
            objects = [dict(zip(header, row, strict=True)) for row in rows]
            output.emit({"epoch": number, "rows": objects}, lambda console: None)
        return
    streams.write(encode_rows([header, *rows], end="\r\n"))
    _report_left_out(customers)


def _report_left_out(customers: Customers) -> None:
    """Print which columns were not copied, by number: a first row that is no header may contain a customer's data."""
    say = output.messages()
    if customers.left_out:
        listed = _numbers(customers.left_out)
        say.print(f"Left out: {listed} of the table. --keep NAME copies a column.", soft_wrap=True)
    for place, kind in customers.hints:
        say.print(f"Column {place + 1} may be of kind {kind}: --column {kind}=NAME tags it.", soft_wrap=True)


def _numbers(places: Sequence[int]) -> str:
    listed = ", ".join([str(place + 1) for place in places[:20]])
    return f"column {listed}" if len(places) == 1 else f"columns {listed}{', ...' if len(places) > 20 else ''}"
