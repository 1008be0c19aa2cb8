"""Options that several commands share, and what they open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ledger.client import RefundLedger
from ledger.client.identity.environment import read_credentials, read_suite
from ledger.client.identity.suite import Suite, load_suite
from ledger.client.subjects import Identifiers
from ledger.client.tables.reader import TableFormat, codec_of, delimiter_of
from ledger.client.transport.budgets import LOOKUP_BUDGET_SECONDS
from ledger.errors import InvalidRequest


def _not_given() -> None:
    """Default of what may come from a variable instead; `open_ledger` says if it comes from nowhere."""


SuiteOption = Annotated[
    Path | None,
    typer.Option(
        "--suite",
        default_factory=_not_given,
        show_default=False,
        help="Suite file that `platform add` wrote. (or $REFUND_LEDGER_SUITE)",
    ),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        default_factory=_not_given,
        show_default=False,
        help="The platform's Ed25519 private key, PEM. (or $REFUND_LEDGER_KEY)",
    ),
]
StateOption = Annotated[
    Path | None, typer.Option("--state-dir", help="Outbox and last checkpoint. (or $REFUND_LEDGER_STATE; XDG state)")
]
PhoneOption = Annotated[str | None, typer.Option("--phone", help="With + and country code, or with --region.")]
EmailOption = Annotated[str | None, typer.Option("--email")]
CnIdOption = Annotated[str | None, typer.Option("--cn-id", help="18-character citizen identity number.")]
PaymentOption = Annotated[str | None, typer.Option("--payment", help="Card number, or provider/account.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Device id, 16 to 128 characters.")]
RegionOption = Annotated[str | None, typer.Option("--region", help="Country of a national phone number, e.g. CN.")]
EncodingOption = Annotated[
    str, typer.Option("--encoding", help="Of the table: utf-8, gb18030 (GBK), utf-16, big5, windows-1252, ...")
]
DelimiterOption = Annotated[
    str | None, typer.Option("--delimiter", help="comma, semicolon or tab. (default: the one in the header)")
]
ColumnOption = Annotated[
    list[str] | None, typer.Option("--column", help="KIND=HEADER, such as phone=手机号. Repeat for more.")
]


def table_format(encoding: str, delimiter: str | None, columns: list[str] | None = None) -> TableFormat:
    """What the options say of a table's form. Raises InvalidRequest."""
    named: dict[str, str] = {}
    for text in columns or ():
        kind, separator, header = text.partition("=")
        if not separator or kind in named:
            raise InvalidRequest("--column is KIND=HEADER, once for each kind.")
        named[kind] = header
    codec_of(encoding)
    return TableFormat(encoding, delimiter_of(delimiter), named)


def open_ledger(
    suite: Path | None, key: Path | None, state_dir: Path | None, *, lookup_budget_seconds: float | None = None
) -> RefundLedger:
    """The SDK on these files, or on what the environment says where they are not given. Raises ConfigurationError."""
    found = read_credentials(os.environ, suite=suite, key=key, state_dir=state_dir)
    return RefundLedger(
        found.suite,
        found.key,
        order_key=found.order_key,
        state_dir=found.state_dir,
        lookup_budget_seconds=lookup_budget_seconds or LOOKUP_BUDGET_SECONDS,
    )


def pinned_suite(suite: Path | None) -> Suite | None:
    """The suite of the file, or else of the environment; None without one. Raises ConfigurationError."""
    found = suite or read_suite(os.environ)
    return load_suite(found) if isinstance(found, Path) else found


def identifiers(
    phone: str | None, email: str | None, cn_id: str | None, payment: str | None, device: str | None
) -> Identifiers:
    """Those identifiers that were given."""
    given = {"phone": phone, "email": email, "cn_id": cn_id, "payment": payment, "device": device}
    return {kind: value for kind, value in given.items() if value is not None}
