"""The tree of commands below `refund-ledger`: those for platforms and auditors, and the operator's where the server is
installed."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger import __version__
from ledger.cli import output
from ledger.cli.ca_file import add_ca_file
from ledger.cli.platform.appeal import appeal, record_link
from ledger.cli.platform.inspect import inspect_files
from ledger.cli.platform.key_holders import endorse_key, key_holders
from ledger.cli.platform.lookup import check, lookup
from ledger.cli.platform.make_key import make_key
from ledger.cli.platform.pictures import pictures
from ledger.cli.platform.referral import referral
from ledger.cli.platform.report import report
from ledger.cli.platform.tag import tag
from ledger.cli.platform.verify import verify
from ledger.cli.platform.verify_rotation import verify as verify_rotation
from ledger.cli.platform.webhook import webhook
from ledger.cli.root import NAME, RootGroup
from ledger.cli.server_missing import add_server_stubs, is_server_installed

app = typer.Typer(
    name=NAME,
    cls=RootGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables, which here are people's identifiers
    help="Refund Credit Ledger: share confirmed refund fraud without sharing who the customers are.",
    epilog="Exit codes: 0 done, 1 refused or verification failed, 2 wrong use, 3 extra not installed, 4 unavailable.",
)


def _show_version(value: bool) -> None:
    if value:
        output.console().print(f"refund-ledger {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    json_output: output.JsonFlag = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


app.command("tag")(tag)
app.command("lookup")(lookup)
app.command("check")(check)
app.add_typer(pictures, name="pictures")
app.add_typer(report, name="report")
app.command("inspect")(inspect_files)
app.command("referral")(referral)
app.add_typer(webhook, name="webhook")
app.add_typer(appeal, name="appeal")
app.command("record-link")(record_link)
app.command("verify")(verify)
app.command("make-key")(make_key)
app.command("endorse-key")(endorse_key)
app.command("key-holders")(key_holders)
app.command("verify-rotation")(verify_rotation)

if is_server_installed():
    from ledger.cli.operator.commands import add_operator_commands

    add_operator_commands(app)
else:
    add_server_stubs(app)

add_ca_file(app)
