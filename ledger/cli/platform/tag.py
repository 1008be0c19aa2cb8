"""`tag`: identifiers into the tags to look them up by, one person or a whole user base."""

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

from ledger.cli import options, output, streams
from ledger.cli.options import (
    CnIdOption,
    ColumnOption,
    DelimiterOption,
    DeviceOption,
    EmailOption,
    EncodingOption,
    KeyOption,
    PaymentOption,
    PhoneOption,
    RegionOption,
    StateOption,
    SuiteOption,
)
from ledger.cli.output import ExitCode, JsonFlag, guarded
from ledger.cli.tables import Table
from ledger.client import Buyer, RefundLedger, buyers
from ledger.client.tables import tagging as client_tagging
from ledger.client.tables.customers import Customers, open_customers
from ledger.client.tables.output import encode_rows
from ledger.client.tables.tagging import Tagging, tag_customers, tag_file
from ledger.errors import InvalidRequest

PROGRESS_SECONDS = 30.0
"""Between two lines of progress where there is no terminal."""


@guarded
def tag(
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    phone: PhoneOption = None,
    email: EmailOption = None,
    cn_id: CnIdOption = None,
    payment: PaymentOption = None,
    device: DeviceOption = None,
    region: RegionOption = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="People, one a row: kinds become tags; --id and --keep are copied. - is stdin."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--in", help="A whole user base: a table with columns named after kinds. Resumable.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="With --in: one row for each identifier (id, kind, epoch, tag, error).")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="The column to copy as the id. (default: the first that is no kind)")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="With --csv: another column to copy. Repeat for more.")
    ] = None,
    not_identifiers: Annotated[
        list[str] | None,
        typer.Option("--not-identifiers", help="A copied column whose cells look like identifiers but are none."),
    ] = None,
    column: ColumnOption = None,
    encoding: EncodingOption = "utf-8",
    delimiter: DelimiterOption = None,
    errors: Annotated[
        Path | None, typer.Option("--errors", help="With --in: where malformed identifiers are (line, id, kind, code).")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="With --in: wait when the daily quota is used up.")] = False,
    epoch: Annotated[
        Literal["current", "next"], typer.Option("--epoch", help="next: tag ahead under an announced key epoch.")
    ] = "current",
    json_output: JsonFlag = False,
) -> None:
    """Blind identifiers and print the tags to look them up by. Prefer files: options show in the process list.

    Exit 2 also when more than half of a kind's identifiers are malformed.
    """
    given = options.identifiers(phone, email, cn_id, payment, device)
    if [bool(given), csv_file is not None, source is not None].count(True) != 1 or (source is None) != (target is None):
        raise InvalidRequest("Give identifiers, or --csv, or --in with --out.")
    if keep and csv_file is None:
        raise InvalidRequest("--keep belongs to --csv; --in copies one column only, --id.")
    form = options.table_format(encoding, delimiter, column)
    trusted = not_identifiers or []
    with options.open_ledger(suite, key, state_dir) as ledger:
        if source is not None and target is not None:
            with _progress() as progress:
                done = tag_file(
                    ledger, source, target, errors=errors, id_column=id_column, region=region, epoch=epoch, wait=wait,
                    form=form, not_identifiers=trusted, progress=progress,
                )  # fmt: skip
            _show_tagging(done, target, region)
        elif csv_file is not None:
            with open_customers(
                streams.source(csv_file), form, id_column=id_column, keep=keep or [], not_identifiers=trusted,
                tag_columns=True,
            ) as customers:  # fmt: skip
                _tag_rows(ledger, customers, region, epoch)
        else:
            _show_tags(buyers(ledger.tag_many([given], region=region, epoch=epoch))[0])


@contextmanager
def _progress() -> Iterator[client_tagging.Progress | None]:
    """A bar on standard error; without a terminal a line now and then; nothing with `--json`."""
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
    """Progress as a line every so many seconds."""
    last = clock()

    def show(read: int, total: int, done: Tagging) -> None:
        nonlocal last
        if clock() - last >= seconds:
            last = clock()
            percent = 100 * read // total if total else 100
            say(f"tagging: {percent} % read, {done.identifiers:,} identifiers, {done.invalid:,} malformed")

    return show


def _show_tagging(done: Tagging, target: Path, region: str | None) -> None:
    """Print the summary; exit 1 when the quota ended the run, 2 when most identifiers of a kind are malformed."""
    advice = _advice(done, region)

    def show(console: Console) -> None:
        if not done.finished:
            hours = -(-(done.retry_after_seconds or 0) // 3600)
            console.print(
                f"The daily quota is used up after {done.identifiers:,} identifiers. Run the same command again after "
                f"midnight UTC (in about {hours} h), or when the operator has granted more: it goes on from there."
            )
        facts = {
            "identifiers": f"{done.identifiers:,}",
            "malformed": f"{done.invalid:,}",
            "there before": f"{done.resumed:,}",
            "key epoch": done.epoch,
            "file": target,
        }
        console.print(output.fields(facts))

    with streams.writing():
        output.emit(asdict(done) | {"mostly_malformed": list(done.mostly_malformed), "advice": advice}, show)
    for line in advice:
        output.messages().print(f"warning: {line}", markup=False, soft_wrap=True)
    if advice:
        raise typer.Exit(int(ExitCode.USAGE))
    if not done.finished:
        raise typer.Exit(int(ExitCode.REFUSED))


def _advice(done: Tagging, region: str | None) -> list[str]:
    """What to do about kinds of which most identifiers are malformed."""
    return [
        f"{done.invalid_by_kind[kind]:,} of {done.identifiers_by_kind[kind]:,} identifiers of kind {kind} are "
        f"malformed. {_likely_cause(kind, region)} Then tag into a new file."
        for kind in done.mostly_malformed
    ]


def _likely_cause(kind: str, region: str | None) -> str:
    if kind == "phone" and region is None:
        return "Numbers without + and country code need --region, such as --region CN."
    if kind == "phone":
        return f"Is {region} the country of these numbers (--region)?"
    return f"Does the column hold another thing than {kind} (--column)?"


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
    """Print the copied columns and the tags, as CSV in UTF-8. Rows without any identifier have empty tags."""
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
    _tell_what_is_left_out(customers)


def _tell_what_is_left_out(customers: Customers) -> None:
    """Columns are named by number: a header may be a customer's line in a file that has none."""
    say = output.messages()
    if customers.left_out:
        listed = _numbers(customers.left_out)
        say.print(f"Left out: {listed} of the table. --keep NAME copies a column.", soft_wrap=True)
    for place, kind in customers.hints:
        say.print(f"Column {place + 1} may be of kind {kind}: --column {kind}=NAME tags it.", soft_wrap=True)


def _numbers(places: Sequence[int]) -> str:
    listed = ", ".join([str(place + 1) for place in places[:20]])
    return f"column {listed}" if len(places) == 1 else f"columns {listed}{', ...' if len(places) > 20 else ''}"
