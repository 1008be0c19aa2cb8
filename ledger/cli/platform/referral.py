"""`referral`: write a document about the platform's own reports for a merchant, an AI provider or an authority."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.options import LedgerOptions
from ledger.errors import InvalidRequest
from ledger.referral.audience import Audience
from ledger.referral.bundle import refer, require_extra
from ledger.rules.languages import DEFAULT_LOCALE, LOCALES


@command
def referral(
    account: LedgerOptions,
    reports: Annotated[list[str], typer.Argument(help="Reports of yours, rp_...")],
    audience: Annotated[
        str, typer.Option("--for", help=f"{', '.join(Audience)}: the receiver, which decides the content.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to create.")],
    inspections: Annotated[
        list[Path] | None,
        typer.Option(
            "--inspection", help="Output of `inspect --json` about files of evidence; its findings are added."
        ),
    ] = None,
    orders: Annotated[
        list[str] | None,
        typer.Option("--order", help="REPORT=ORDER: print the order number, if it is the order of that report."),
    ] = None,
    lang: Annotated[str, typer.Option("--lang", help=f"{' or '.join(LOCALES)}.")] = DEFAULT_LOCALE,
    wait_seconds: Annotated[
        float, typer.Option("--wait-seconds", min=0, help="How long to wait for a checkpoint that covers the reports.")
    ] = 5.0,
) -> None:
    """Write a referral: the reports, digests of evidence, findings, and receipts that can be verified offline."""
    require_extra()
    with account.open() as ledger:
        written = refer(
            ledger,
            reports,
            out,
            audience=audience,
            locale=lang,
            inspections=inspections or (),
            orders=dict([_order(text) for text in orders or ()]),
            wait_seconds=wait_seconds,
        )
    facts = {
        "folder": str(out),
        "for": written.audience.value,
        "reports": len(written.reports),
        "not_simply_standing": [report.id for report in written.reports if report.status != "counting"],
    }
    shown = {name: ", ".join(value) if isinstance(value, list) else value for name, value in facts.items()}
    output.emit(facts, lambda console: console.print(output.fields(shown)))


def _order(text: str) -> tuple[str, str]:
    report, separator, order = text.partition("=")
    if not separator:
        raise InvalidRequest("--order is REPORT=ORDER.")
    return report, order
