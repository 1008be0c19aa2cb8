"""`tag`: identifiers into the tags to look them up by, one person or a whole user base."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ledger.cli import options, output
from ledger.cli.options import (
    CnIdOption,
    DeviceOption,
    EmailOption,
    KeyOption,
    PaymentOption,
    PhoneOption,
    RegionOption,
    StateOption,
    SuiteOption,
)
from ledger.cli.output import ExitCode, JsonFlag, guarded
from ledger.client import Buyer, RefundLedger
from ledger.client import tagging as client_tagging
from ledger.client.subjects import Identifiers
from ledger.client.tagging import KINDS, Tagging, tag_file
from ledger.errors import ConfigurationError, InvalidRequest


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
        typer.Option("--csv", help="People, one a row, columns named after kinds; other columns are kept. - is stdin."),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--in", help="A whole user base: CSV with columns named after kinds. Resumable.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--out", help="With --in: one row for each identifier (id, kind, epoch, tag, error).")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="With --in: the column to copy. (default: the first that is no kind)")
    ] = None,
    errors: Annotated[
        Path | None, typer.Option("--errors", help="With --in: where malformed identifiers are (line, id, kind, code).")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="With --in: wait when the daily quota is used up.")] = False,
    epoch: Annotated[
        Literal["current", "next"], typer.Option("--epoch", help="next: tag ahead under an announced key epoch.")
    ] = "current",
    json_output: JsonFlag = False,
) -> None:
    """Blind identifiers and print the tags to look them up by. Prefer files: options show in the process list."""
    given = options.identifiers(phone, email, cn_id, payment, device)
    if [bool(given), csv_file is not None, source is not None].count(True) != 1 or (source is None) != (target is None):
        raise InvalidRequest("Give identifiers, or --csv, or --in with --out.")
    with options.open_ledger(suite, key, state_dir) as ledger:
        if source is not None and target is not None:
            with _bar() as progress:
                done = tag_file(
                    ledger, source, target, errors=errors, id_column=id_column, region=region, epoch=epoch, wait=wait,
                    progress=progress,
                )  # fmt: skip
            _show_tagging(done, target)
        elif csv_file is not None:
            _tag_rows(ledger, _read_rows(csv_file), region, epoch)
        else:
            _show_tags(ledger.subjects_many([given], region=region, epoch=epoch)[0])


@contextmanager
def _bar() -> Iterator[client_tagging.Progress | None]:
    """A bar on standard error; nothing with `--json` or without a terminal."""
    terminal = output.messages()
    if output.json_asked() or not terminal.is_terminal:
        yield None
        return
    columns = (TextColumn("tagging"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[identifiers]:,}"))
    with Progress(*columns, TextColumn("identifiers"), TimeRemainingColumn(), console=terminal, transient=True) as bar:
        task = bar.add_task("tagging", total=None, identifiers=0)

        def show(read: int, total: int, done: Tagging) -> None:
            bar.update(task, completed=read, total=total, identifiers=done.identifiers)

        yield show


def _show_tagging(done: Tagging, target: Path) -> None:
    """Print the summary, and exit 1 when the quota ended the run."""

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

    output.emit(asdict(done), show)
    if not done.finished:
        raise typer.Exit(int(ExitCode.REFUSED))


def _show_tags(buyer: Buyer) -> None:
    tags = [{"kind": kind, "tag": text} for kind, text in buyer.tags()]

    def show(console: Console) -> None:
        table = Table("kind", "tag")
        for kind, text in buyer.tags():
            table.add_row(kind, text)
        console.print(table)

    output.emit({"epoch": buyer.epoch, "tags": tags}, show)


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read as UTF-8 text.") from error
    rows = list(csv.DictReader(io.StringIO(text)))
    if not rows or not set(KINDS) & set(rows[0]):
        raise InvalidRequest(f"The CSV needs a header with at least one of: {', '.join(KINDS)}.")
    return rows


def _tag_rows(
    ledger: RefundLedger, rows: Sequence[dict[str, str]], region: str | None, epoch: Literal["current", "next"]
) -> None:
    """Rows without any identifier are kept, with empty tags; a malformed identifier stops everything, by row number."""
    people: list[Identifiers] = [{kind: row[kind] for kind in KINDS if row.get(kind)} for row in rows]
    filled = [person for person in people if person]
    number = ledger.tagging_epoch(epoch)
    buyers = iter(ledger.subjects_many(filled, region=region, epoch=number))
    kinds = [kind for kind in KINDS if kind in rows[0]]
    tagged: list[dict[str, str]] = []
    for row, person in zip(rows, people, strict=True):
        tags = dict(next(buyers).tags()) if person else {}
        kept = {name: value for name, value in row.items() if name not in KINDS and name is not None}
        tagged.append({**kept, **{f"{kind}_tag": tags.get(kind, "") for kind in kinds}})
    if output.json_asked():
        output.emit({"epoch": number, "rows": tagged}, lambda console: None)
        return
    writer = csv.DictWriter(sys.stdout, fieldnames=list(tagged[0]))
    writer.writeheader()
    writer.writerows(tagged)
