"""`key-holders` and `endorse-key`: who holds the key that tags are made with, and a further key of the platform for
them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.exit_codes import ExitCode
from ledger.cli.options import LedgerOptions
from ledger.cli.tables import Table
from ledger.client import KeyHolders
from ledger.client.identity.keyfiles import load_public_keys
from ledger.errors import InvalidRequest

SINGLE = (
    "One holder has the whole key: it alone could compute the tag of any identifier, and so find out who every person "
    "is."
)


@command
def key_holders(account: LedgerOptions) -> None:
    """Show which organisations hold the ledger's key.

    Their cards are compared with the ledger and its log first.
    """
    with account.open() as ledger:
        ledger.connect()
        described = ledger.key_holders
    output.emit(asdict(described) | {"single": described.single}, lambda console: _show(console, described))


def _show(console: Console, described: KeyHolders) -> None:
    table = Table("holder", "organisation", "operator", "address")
    for holder in described.holders:
        operator = {True: "yes", False: "no", None: ""}[holder.operator]
        table.add_row(holder.id, holder.organisation or "", operator, holder.url or "")
    console.print(table)
    if described.single:
        console.print(SINGLE, soft_wrap=True)
    else:
        console.print(
            f"Any {described.threshold} of {len(described.holders)} evaluate an identifier together; fewer learn "
            f"nothing. Key epoch {described.epoch}, generation {described.generation}.",
            soft_wrap=True,
        )
        console.print(
            output.digits_line("Fingerprint of the key statement", described.fingerprint or ""),
            soft_wrap=True,
        )
        console.print("Compare it with a holder by telephone.")


@command
def endorse_key(
    account: LedgerOptions,
    public_key: Annotated[Path, typer.Argument(help="The further public key (PEM), such as `acme-2.public.pem`.")],
    kid: Annotated[str, typer.Option("--kid", help="The id that the operator registers for it, such as acme-2.")],
) -> None:
    """Present a further signing key to all key holders.

    The present one (--key) signs it, and each holder then accepts both. Exit 1 if a holder refused; run the command
    again.
    """
    keys = load_public_keys(public_key)
    if len(keys) != 1:
        raise InvalidRequest(f"{public_key.name} must hold exactly one public key.")
    with account.open() as ledger:
        outcomes = ledger.endorse_key(kid, keys[0])
    refusals = {name: error and {"code": error.code, "message": str(error)} for name, error in outcomes.items()}

    def show(console: Console) -> None:
        words = {name: "accepted" if error is None else str(error) for name, error in outcomes.items()}
        console.print(output.fields(words))

    output.emit({"kid": kid, "holders": refusals}, show)
    if any(outcomes.values()):
        raise typer.Exit(int(ExitCode.REFUSED))
