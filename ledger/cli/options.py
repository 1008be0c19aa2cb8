"""Options that several commands share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ledger.client import RefundLedger
from ledger.client.subjects import Identifiers
from ledger.client.tables import TableFormat, codec_of, delimiter_of
from ledger.errors import InvalidRequest

SuiteOption = Annotated[
    Path, typer.Option("--suite", envvar="REFUND_LEDGER_SUITE", help="Suite file that `platform add` wrote.")
]
KeyOption = Annotated[
    Path, typer.Option("--key", envvar="REFUND_LEDGER_KEY", help="The platform's Ed25519 private key (PEM).")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state-dir", envvar="REFUND_LEDGER_STATE", help="Outbox and last checkpoint. (default: XDG state)"),
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


def open_ledger(suite: Path, key: Path, state_dir: Path | None) -> RefundLedger:
    """The SDK on these files. Raises ConfigurationError."""
    return RefundLedger(suite, key, state_dir=state_dir)


def identifiers(
    phone: str | None, email: str | None, cn_id: str | None, payment: str | None, device: str | None
) -> Identifiers:
    """Those identifiers that were given."""
    given = {"phone": phone, "email": email, "cn_id": cn_id, "payment": payment, "device": device}
    return {kind: value for kind, value in given.items() if value is not None}
