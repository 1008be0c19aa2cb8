"""`verify-rotation`: verify the files of a key rotation against the log (auditor)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ledger.cli import options, output
from ledger.cli.decorator import command
from ledger.cli.platform.verify import log_fetch, seen_file
from ledger.cli.progress import stage_bars
from ledger.client.state import SeenCheckpoint
from ledger.client.transport.http import Transport
from ledger.client.verify.log import fetch_checkpoint
from ledger.client.verify.rotation import Places, RotationReport, read_places, verify_rotation
from ledger.errors import InvalidRequest, InvalidRotation
from ledger.protocol.encoding import b64url
from ledger.tlog.checkpoint import parse_verifier_key


@command
def verify(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the batch files that the operator gave you.")
    ],
    suite: Annotated[
        Path | None, typer.Option("--suite", help="Suite file with the pinned log key. (or $REFUND_LEDGER_SUITE)")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="The ledger's address. (default: the suite's)")] = None,
    log_key: Annotated[
        str | None, typer.Option("--log-key", help="The log's verifier key, instead of --suite.")
    ] = None,
    old: Annotated[int | None, typer.Option("--from", help="Check that this is the old epoch.")] = None,
    new: Annotated[int | None, typer.Option("--to", help="Check that this is the new epoch.")] = None,
    switch_entry: Annotated[
        int | None, typer.Option("--switch-entry", help="Log entry of the switch. (default: from rotation.json)")
    ] = None,
    root_entry: Annotated[
        int | None,
        typer.Option("--root-entry", help="Log entry with the root, for late reports. (default: the switch)"),
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="File with the last checkpoint that was seen. (default: XDG state)")
    ] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Allow http to addresses on other machines.")
    ] = False,
    timeout_seconds: Annotated[
        float, typer.Option("--timeout-seconds", min=0.1, help="Time limit for each file of the log.")
    ] = 30.0,
) -> None:
    """Verify a rotation's batch files against the log: keys, proofs, root and number. Exit 1 if a check fails."""
    pinned = options.pinned_suite(suite)
    key = log_key or (pinned.pinned.log_key if pinned else None)
    address = url or (pinned.url if pinned else None)
    if key is None or address is None:
        raise InvalidRequest("Give --suite, or --url and --log-key: a log cannot prove its own key.")
    if switch_entry is None and root_entry is not None:
        raise InvalidRequest("--root-entry needs --switch-entry.")
    places = (
        read_places(folder)
        if switch_entry is None
        else Places(switch_entry, switch_entry if root_entry is None else root_entry)
    )
    origin, public_key = parse_verifier_key(key)
    transport = Transport(address, insecure_http=insecure_http)
    try:
        fetch = log_fetch(transport, address, timeout_seconds)
        note = fetch_checkpoint(fetch)
        SeenCheckpoint(state or seen_file(pinned, key), origin, public_key).accept(note, fetch)
        with stage_bars({"verify": "verifying elements"}) as bars:
            report = verify_rotation(
                folder,
                places,
                fetch,
                note,
                pinned.pinned if pinned is not None else None,
                origin,
                public_key,
                workers=os.cpu_count() or 1,
                progress=lambda done, total: bars("verify", done, total),
            )
    finally:
        transport.close()
    if (old or report.old_epoch, new or report.new_epoch) != (report.old_epoch, report.new_epoch):
        raise InvalidRotation(f"These files are of the rotation from {report.old_epoch} to {report.new_epoch}.")
    _show_report(report)


def _show_report(report: RotationReport) -> None:
    value = {
        "verified": True,
        "from": report.old_epoch,
        "to": report.new_epoch,
        "late": report.late,
        "elements": report.elements,
        "batches": report.batches,
        "root": b64url(report.root),
        "switch_entry": report.places.switch_entry,
        "root_entry": report.places.root_entry,
        "threshold": report.threshold,
        "holders": list(report.holders),
        "sharings": report.sharings,
    }

    def show(console: Console) -> None:
        console.print("[bold green]Every element in these files was converted from the old key to the new one.[/]")
        console.print(output.fields({**value, "holders": ", ".join(report.holders)}))
        if report.sharings:
            console.print(
                f"{report.sharings} key statements from the beginning of the log are signed by all their holders, and "
                "each follows the one before."
            )
        console.print(
            "Keys, number and root are those of the log. Only the platforms together can verify that the files contain "
            "every subject."
        )

    output.emit(value, show)
