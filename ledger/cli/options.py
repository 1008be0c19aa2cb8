"""Options that several commands share: single ones, groups of them, and what is built from a group."""

from __future__ import annotations

import functools
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from ledger.cli import streams
from ledger.client import RefundLedger
from ledger.client.identity.environment import read_credentials, read_suite
from ledger.client.identity.suite import Suite, load_suite
from ledger.client.subjects import Identifiers
from ledger.client.tables.reader import TableFormat, codec_of, delimiter_of
from ledger.client.transport.budgets import LOOKUP_BUDGET_SECONDS
from ledger.errors import ConfigurationError, InvalidRequest


def _not_given() -> None:
    """Default of an option that an environment variable may replace. `LedgerOptions.open` reports a missing one."""


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
    Path | None,
    typer.Option(
        "--state-dir",
        help="Folder of the outbox and the last checkpoint. (or $REFUND_LEDGER_STATE; default: XDG state)",
    ),
]
CardsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--cards",
        help="A key holder's card, or a folder of cards, where the key is shared; repeat for more. "
        "(or $REFUND_LEDGER_CARDS)",
    ),
]
PhoneOption = Annotated[
    str | None, typer.Option("--phone", help="Phone number with + and country code, or a national one with --region.")
]
EmailOption = Annotated[str | None, typer.Option("--email", help="E-mail address.")]
CnIdOption = Annotated[str | None, typer.Option("--cn-id", help="18-character citizen identity number.")]
PaymentOption = Annotated[str | None, typer.Option("--payment", help="Card number, or provider/account.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Device id, 16 to 128 characters.")]
RegionOption = Annotated[str | None, typer.Option("--region", help="Country of a national phone number, e.g. CN.")]
EncodingOption = Annotated[
    str, typer.Option("--encoding", help="Encoding of the table: utf-8, gb18030 (GBK), utf-16, big5, windows-1252, ...")
]
DelimiterOption = Annotated[
    str | None, typer.Option("--delimiter", help="comma, semicolon or tab. (default: the one that the header uses)")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option("--column", help="KIND=HEADER: the column of a kind, such as phone=手机号. Repeat for more."),
]


LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100, help="Largest number of items to show.")]
AfterOption = Annotated[str | None, typer.Option("--starting-after", help="Last id of the previous page.")]
TextOption = Annotated[str | None, typer.Option("--text", help="The text. Or use --text-file.")]
TextFileOption = Annotated[
    Path | None, typer.Option("--text-file", help="A file with the text, UTF-8. - is standard input.")
]


class OptionGroup:
    """A dataclass whose fields are options. A command with a parameter of such a type (see `command`) has the options
    in its place, and gets them as one object."""

    @classmethod
    @functools.cache
    def parameters(cls) -> list[inspect.Parameter]:
        """Return the options as parameters of a function, in the order of the fields."""
        hints = get_type_hints(cls, include_extras=True)
        return [
            parameter.replace(annotation=hints[name]) for name, parameter in inspect.signature(cls).parameters.items()
        ]


@dataclass(frozen=True)
class LedgerOptions(OptionGroup):
    """The arguments with which the SDK is opened for a platform: its suite file, its key, the folder of its outbox, and
    the key holders' cards."""

    suite: SuiteOption
    key: KeyOption
    state_dir: StateOption = None
    cards: CardsOption = None

    def open(self, *, lookup_budget_seconds: float | None = None) -> RefundLedger:
        """Open the SDK with these files, or with those that the environment names. `lookup_budget_seconds` is the time
        limit of a lookup (default `LOOKUP_BUDGET_SECONDS`).

        Raises ConfigurationError, HolderMismatch.
        """
        credentials = read_credentials(
            os.environ, suite=self.suite, key=self.key, state_dir=self.state_dir, cards=self.cards
        )
        return RefundLedger(
            credentials.suite,
            credentials.key,
            order_key=credentials.order_key,
            state_dir=credentials.state_dir,
            cards=credentials.cards,
            lookup_budget_seconds=lookup_budget_seconds or LOOKUP_BUDGET_SECONDS,
        )


@dataclass(frozen=True)
class PersonOptions(OptionGroup):
    """The identifiers of one person."""

    phone: PhoneOption = None
    email: EmailOption = None
    cn_id: CnIdOption = None
    payment: PaymentOption = None
    device: DeviceOption = None
    region: RegionOption = None

    def identifiers(self) -> Identifiers:
        """Return the identifiers that were given, by kind."""
        values = {
            "phone": self.phone,
            "email": self.email,
            "cn_id": self.cn_id,
            "payment": self.payment,
            "device": self.device,
        }
        return {kind: value for kind, value in values.items() if value is not None}


@dataclass(frozen=True)
class TableOptions(OptionGroup):
    """The form of a table that a command reads."""

    column: ColumnOption = None
    encoding: EncodingOption = "utf-8"
    delimiter: DelimiterOption = None

    def format(self) -> TableFormat:
        """Return the form of the table. Raises InvalidRequest."""
        headers: dict[str, str] = {}
        for text in self.column or ():
            kind, separator, header = text.partition("=")
            if not separator or kind in headers:
                raise InvalidRequest("--column is KIND=HEADER, once for each kind.")
            headers[kind] = header
        codec_of(self.encoding)
        return TableFormat(self.encoding, delimiter_of(self.delimiter), headers)


@dataclass(frozen=True)
class PageOptions(OptionGroup):
    """The page of a list that is shown."""

    limit: LimitOption = 50
    starting_after: AfterOption = None


@dataclass(frozen=True)
class TextOptions(OptionGroup):
    """A text of a person, as an option or in a file."""

    text: TextOption = None
    text_file: TextFileOption = None

    def read(self) -> str:
        """Return the text of --text, or that of the file of --text-file (UTF-8, with or without a byte order mark; - is
        standard input).

        Raises InvalidRequest unless exactly one of the two is given, ConfigurationError if the file cannot be read.
        """
        if (self.text is None) == (self.text_file is None):
            raise InvalidRequest("Give the text with --text, or with --text-file.")
        if self.text_file is None:
            return self.text or ""
        name = "Standard input" if str(self.text_file) == "-" else self.text_file.name
        try:
            source = streams.source(self.text_file)
            data = source.read_bytes() if isinstance(source, Path) else source.read()
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{name} is not UTF-8 text (byte {error.start + 1}). If it is in GBK or another encoding, save it as"
                " UTF-8."
            ) from error
        except OSError as error:
            raise ConfigurationError(f"{name} cannot be read.") from error


def pinned_suite(suite: Path | None) -> Suite | None:
    """Return the suite of the file, or that of the environment, or None. Raises ConfigurationError."""
    source = suite or read_suite(os.environ)
    return load_suite(source) if isinstance(source, Path) else source
