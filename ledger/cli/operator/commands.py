"""The operator's commands, added to the tree where the server is installed."""

from __future__ import annotations

import typer

from ledger.cli.operator.benign_pictures import benign
from ledger.cli.operator.holder import holder
from ledger.cli.operator.holder_service import add_service_commands
from ledger.cli.operator.keys import keys
from ledger.cli.operator.platforms import platform
from ledger.cli.operator.policy import policy
from ledger.cli.operator.publish import publish
from ledger.cli.operator.rotate import rotate
from ledger.cli.operator.server import serve
from ledger.cli.operator.staff import staff
from ledger.cli.platform.pictures import pictures
from ledger.server.demo.demo import demo
from ledger.server.demo.replay import replay


def add_operator_commands(app: typer.Typer) -> None:
    """Add the operator's commands, the demonstration and the replay to `app`."""
    pictures.add_typer(benign, name="benign")
    app.command("serve")(serve)
    app.add_typer(keys, name="keys")
    app.add_typer(platform, name="platform")
    app.add_typer(staff, name="staff")
    app.add_typer(policy, name="policy")
    app.command("publish")(publish)
    app.command("rotate")(rotate)
    add_service_commands(holder)
    app.add_typer(holder, name="holder")
    app.command("demo")(demo)
    app.command("replay")(replay)
