"""Demo and replay: the main job on a ledger of its own, from synthetic and from real tables."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.client.tables.reader import TableFormat
from ledger.errors import ConfigurationError, InvalidTable
from ledger.rules.conduct import Conduct, check_evidence
from ledger.server.demo.replay import _moved, made_up_evidence
from ledger.server.demo.replay_mapping import ReportMapping, fill, moment, read_mapping, read_rows, spread
from tests.forked import run_command
from tests.support import ROOT, SHARED, sqlite_schema

MAPPINGS = ROOT / "docs" / "replay"


def run(*arguments: object, code: int = 0) -> dict[str, Any]:
    done = run_command([*arguments, "--json"], folder=ROOT)
    assert done.returncode == code, (done.stdout, done.stderr)
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def test_the_demo_tells_its_story_and_can_be_run_again(tmp_path: Path) -> None:
    tiers = ["clear", "watch", "watch", "review", "high", "high", "review", "clear", "clear"]
    tiers += ["watch", "clear", "clear"]  # accused, contested, healed
    tiers += ["clear"]  # a holder is stopped
    # An earlier version's demo was here, whose key one holder has.
    (tmp_path / "demo" / "keys").mkdir(parents=True)
    (tmp_path / "demo" / "keys" / "oprf.json").touch()
    sizes = []
    for _ in range(2):
        output = run("demo", "--dir", tmp_path / "demo")
        assert output["as_expected"]
        assert [step["tier"] for step in output["steps"]] == tiers
        assert output["appeal"]["outcome"] == "overturned"
        assert output["seconds"] < 60
        assert output["folder"] == str(tmp_path / "demo-2-of-3")
        named = {party["name"]: (party["shares"], party["named"]) for party in output["holders"]["parties"]}
        single = dict.fromkeys(("operator", "north", "south"), (1, 0))
        assert named == {**single, "thief": (0, 0), "two": (2, output["holders"]["listed"])}
        assert output["holders"]["listed"] == 2
        assert output["outage"]["failures"] == {"south": {"connect": 1}}
        sizes.append(output["log"]["size"])
    assert sizes[1] > sizes[0], "the second run goes on with the same ledger"


def test_a_small_table_gives_the_standings_it_should(tmp_path: Path) -> None:
    """Four people: rated by two platforms, by one, by none badly, and by two raters of the same platform."""
    columns = "rater,rated,score,at\n"
    by_platform: dict[int, list[str]] = {0: [], 1: []}
    for number in range(100):
        by_platform[spread(str(number), 2)].append(str(number))
    first, second = by_platform[0][:3], by_platform[1][:3]
    rows = [
        (first[0], "two-platforms", -10), (second[0], "two-platforms", -10),
        (first[0], "one-platform", -10), (first[1], "liked", 5),
        (first[0], "same-platform", -10), (first[1], "same-platform", -10), (first[1], "same-platform", -10),
        (first[0], "", -10),
    ]  # fmt: skip
    data = tmp_path / "ratings.csv"
    data.write_text(columns + "".join(f"{a},{b},{c},{1_300_000_000 + n}\n" for n, (a, b, c) in enumerate(rows)))
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "ledger.db").write_bytes(sqlite_schema())
    mapping = tmp_path / "ratings.toml"
    mapping.write_text(
        """
        name = "ratings"
        platforms = 2
        identity = { kind = "payment", value = "market/user-{rated}" }
        [reports]
        reporter = "{rater}"
        order = "{rater}-{rated}"
        amount_from_minor = 100
        amount_to_minor = 99999
        time_column = "at"
        time_format = "unix"
        newest_days_ago = 5
        rules = [{ when = { column = "score", max = -10 }, conduct = "switched_return" }]
        """
    )
    output = run("replay", data, "--mapping", mapping, "--self-contained", tmp_path / "ledger", "--batch", 2)
    assert output["reports"] == {"accepted": 5, "order_already_reported": 1}
    assert output["tiers"] == {"clear": 0, "watch": 2, "review": 0, "high": 1}
    assert output["people_tagged"] == 3
    again = run("replay", data, "--mapping", mapping, "--self-contained", tmp_path / "ledger")
    assert again["reports"] == {"order_already_reported": 6}
    assert again["tiers"] == output["tiers"]


@pytest.mark.parametrize(
    ("name", "limit", "least_lookups"),
    [("bitcoin_otc.csv", 12_000, 50), ("online_retail.parquet", 20_000, 50)],
)
def test_a_slice_of_the_real_data(tmp_path: Path, name: str, limit: int, least_lookups: int) -> None:
    data = SHARED / "data" / name
    if not data.exists():
        pytest.skip(f"{name} is not in a folder `shared/data` beside the checkout")
    mapping = MAPPINGS / f"{data.stem}.toml"
    output = run("replay", data, "--mapping", mapping, "--self-contained", tmp_path / "ledger", "--limit", limit)
    assert output["rows"] == limit
    assert output["lookups"]["answered"] >= least_lookups
    assert sum(output["tiers"].values()) == output["lookups"]["answered"]
    if name == "bitcoin_otc.csv":
        assert output["reports"]["accepted"] > 50
        assert output["tiers"]["watch"] > 0
    else:
        assert output["tiers"]["clear"] == output["lookups"]["answered"], "nobody was reported"


@pytest.mark.parametrize("conduct", [conduct for conduct in Conduct if conduct is not Conduct.ACCOUNT_FARM])
def test_made_up_evidence_meets_the_minimum(conduct: Conduct) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    check_evidence(conduct, made_up_evidence(conduct, "seed", now))
    assert made_up_evidence(conduct, "seed", now) == made_up_evidence(conduct, "seed", now)


def test_times_move_to_the_present_and_keep_their_order() -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    old = [datetime(2010, 1, 1, tzinfo=UTC) + timedelta(days=100 * n) for n in range(10)]
    how = ReportMapping((), "", "", "", "unix", 5, None, 1, 2)
    moved = _moved(old, how, now)
    assert moved[old[-1]] == now - timedelta(days=5)
    assert moved[old[-1]] - moved[old[0]] == old[-1] - old[0]
    squeezed = _moved(old, ReportMapping((), "", "", "", "unix", 5, 95, 1, 2), now)
    assert squeezed[old[0]] == now - timedelta(days=95)
    assert [squeezed[moment] for moment in old] == sorted(squeezed.values())
    assert _moved([], how, now) == {}


@pytest.mark.parametrize(
    ("value", "time_format"),
    [
        ("1769817600", "unix"),
        (1769817600.0, "unix"),
        ("2026-01-31T00:00:00+00:00", "iso"),
        ("31/1/26 0:00", "%d/%m/%y %H:%M"),
    ],
)
def test_times_are_read_in_the_mapping_s_format(value: object, time_format: str) -> None:
    assert moment(value, time_format) == datetime(2026, 1, 31, tzinfo=UTC)


def test_wrong_mappings_and_data_are_refused_by_name(tmp_path: Path) -> None:
    good = (MAPPINGS / "online_retail.toml").read_text()
    wrong = [
        "",
        "name = ",
        good.replace("platforms = 4", "platforms = 0"),
        good.replace('"payment"', '"account"'),
        good.replace("{CustomerID}", "{CustomerID.__class__}"),
        good.replace("{CustomerID}", "{CustomerID!r}"),
        good.replace('prefix = "C"', 'starts = "C"'),
        good.partition("[lookups]")[0],
    ]
    path = tmp_path / "m.toml"
    for text in wrong:
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            read_mapping(path)
    with pytest.raises(ConfigurationError):
        fill("{missing}", {"there": 1})
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(ConfigurationError):
            list(read_rows(tmp_path / name, None))
    path.write_text(good)
    data = tmp_path / "d.csv"
    data.write_text("InvoiceNo\nC1\n")
    output = run("replay", data, "--mapping", path, "--self-contained", tmp_path / "l", "--platforms", tmp_path, code=2)
    assert output["error"]["code"] == "configuration_error"


def test_parquet_without_pyarrow_exits_3_and_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {"pyarrow", "pyarrow.parquet", *[name for name in sys.modules if name.startswith("pyarrow.")]}:
        monkeypatch.setitem(sys.modules, name, None)
    data = tmp_path / "d.parquet"
    data.write_bytes(b"PAR1")
    words = ["replay", data, "--mapping", MAPPINGS / "online_retail.toml", "--self-contained", tmp_path / "l"]
    output.reset()
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == ExitCode.EXTRA_MISSING, done.stderr
    assert "refund-credit-ledger-server[replay]" in done.stderr


def test_a_table_may_be_in_another_encoding_and_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes("订单;客户\r\nC1;王小明\r\nC2;李雷\r\n".encode("gbk"))
    form = TableFormat(encoding="gb18030", delimiter=";")
    assert list(read_rows(path, None, form)) == [{"订单": "C1", "客户": "王小明"}, {"订单": "C2", "客户": "李雷"}]
    assert len(list(read_rows(path, 1, form))) == 1
    with pytest.raises(InvalidTable, match="gb18030"):
        list(read_rows(path, None))
    path.write_bytes(b'\xef\xbb\xbforder,who\n1,a\n2,b,c\n3,d\n4,"e\n')
    with pytest.raises(InvalidTable, match="never closed"):
        list(read_rows(path, None))
    with pytest.raises(InvalidTable, match="Line 3"):
        list(read_rows(path, 2))
    assert list(read_rows(path, 1)) == [{"order": "1", "who": "a"}]
