"""`platform grant` and `platform budget`, as an operator types them."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from ledger.cli import app, output
from tests.support import Platform, new_ledger, server_environment


def test_a_grant_is_given_and_shown(tmp_path: Path) -> None:
    settings = new_ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path)
    Platform("acme", "acme-group", "acme-1").enrol(settings)
    environment = {**server_environment(settings), "COLUMNS": "120"}

    def command(*words: str) -> Result:
        output.reset()  # as each process begins
        return CliRunner().invoke(app, ["platform", *words], env=environment)

    given = command("grant", "acme", "--elements", "2000000", "--reason", "first tagging [bold]", "--days", "30")
    assert given.exit_code == 0, given.stderr
    assert "2,000,000 elements more within 30 days" in given.stdout
    refused = command("grant", "nobody", "--elements", "5", "--reason", "x")
    assert (refused.exit_code, refused.stderr.strip()) == (1, "error: There is no platform of this name.")
    answer = json.loads(command("budget", "acme", "--json").stdout)
    assert (answer["used_today"], answer["daily_quota"]) == (0, 100_000)
    (grant,) = answer["grants"]
    assert (grant["elements"], grant["used"], grant["reason"]) == (2_000_000, 0, "first tagging [bold]")
    shown = command("budget", "acme").stdout
    assert "0 of 100,000 elements used today" in shown
    assert "first tagging [bold]" in shown
    assert "acme may have 1 element a day." in command("quota", "acme", "1").stdout
    assert "acme may have 2,000 elements a day." in command("quota", "acme", "2000").stdout
