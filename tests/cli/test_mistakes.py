"""No typical mistake on the command line ends in a traceback: it is a line and an exit code, or JSON if asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from typer.main import get_command
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from tests.cli.test_commands import report_file, report_json
from tests.cli.test_docs import commands
from tests.client.small_ledger import small_ledger
from tests.faulty import free_port
from tests.personas import PNG
from tests.support import ROOT

OFFLINE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "")


@pytest.fixture(scope="module")
def platform_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Files of a platform whose ledger is away, and things that are no such files."""
    folder = tmp_path_factory.mktemp("mistakes")
    with small_ledger(folder) as ledger:
        suite = ledger.suite_file(url=f"http://127.0.0.1:{free_port()}")
    (folder / "acme.suite.json").write_text(json.dumps(suite))
    assert CliRunner().invoke(app, ["make-key", str(folder / "acme.pem")]).exit_code == 0
    (folder / "folder").mkdir()
    (folder / "folder" / "inner").mkdir()
    (folder / "picture.png").write_bytes(PNG)
    (folder / "garbage").write_bytes(bytes(range(256)) * 8)
    (folder / "empty").write_bytes(b"")
    report_file(folder / "cases.json", report_json({"phone": "+86 138 0013 8000"}))
    (folder / "users.csv").write_text("id,phone\n1,+86 138 0013 8000\n")
    return {
        "folder": folder,
        "access": [
            "--suite",
            folder / "acme.suite.json",
            "--key",
            folder / "acme.pem",
            "--state-dir",
            folder / "state",
        ],
        "bad": {
            "missing": folder / "none" / "none",
            "folder": folder / "folder",
            "garbage": folder / "garbage",
            "empty": folder / "empty",
        },
    }


def invoked(*words: object, **environment: str) -> typer.testing.Result:
    """One run in this process. A test sees what would be a traceback as an exception other than SystemExit."""
    output.reset()
    return CliRunner(env={**OFFLINE, **environment}).invoke(app, [str(word) for word in words])


def refused(*words: object) -> None:
    """Without and with `--json`: a named error, and a code that says so."""
    plain, machine = invoked(*words), invoked(*words, "--json")
    for result in (plain, machine):
        assert isinstance(result.exception, SystemExit), (words, result.exception, result.output)
        assert result.exit_code in (1, 2, 3, 4), (words, result.output)
        assert "Traceback" not in result.output
    value = json.loads(machine.stdout)
    error = value["error"] if "error" in value else value["files"][0]["error"] if "files" in value else value["results"]
    assert error, value
    if isinstance(error, dict):
        assert {"message", "code"} <= set(error), value
    assert plain.stderr.strip() or plain.stdout.strip()


FILES: list[tuple[str, list[str]]] = [
    ("lookup", ["--order", "1", "--phone", "+86 138 0013 8000", "--suite", "{bad}", "--key", "{acme.pem}"]),
    ("lookup", ["--order", "1", "--phone", "+86 138 0013 8000", "--suite", "{acme.suite.json}", "--key", "{bad}"]),
    ("report outbox", ["--suite", "{acme.suite.json}", "--key", "{acme.pem}", "--state-dir", "{garbage}"]),
    ("tag", ["{access}", "--csv", "{bad}"]),
    ("tag", ["{access}", "--in", "{bad}", "--out", "{folder}/x/out.csv"]),
    ("tag", ["{access}", "--in", "{users.csv}", "--out", "{folder}"]),
    ("report send", ["{access}", "--file", "{bad}"]),
    ("report send", ["{access}", "--file", "{cases.json}", "--errors", "{folder}"]),
    ("appeal file", ["{access}", "--report", "rp_abcdefgh", "--grounds", "other", "--text-file", "{bad}"]),
    ("appeal attach", ["ap_abcdefgh", "{bad}", "{access}"]),
    ("appeal request-reopening", ["ap_abcdefgh", "{bad}", "{access}", "--text", "x"]),
    ("inspect", ["{bad}"]),
    ("inspect", ["{picture.png}", "--listing", "{bad}"]),
    ("inspect", ["{picture.png}", "--receipt", "{bad}"]),
    ("pictures search", ["{bad}", "--order", "1", "{access}"]),
    ("verify", ["--suite", "{bad}"]),
    ("verify", ["--suite", "{acme.suite.json}", "--receipt", "{bad}", "--offline"]),
    ("verify", ["--suite", "{acme.suite.json}", "--platform-key", "{bad}", "--offline", "--receipt", "{picture.png}"]),
    ("verify-rotation", ["{bad}", "--suite", "{acme.suite.json}"]),
    ("make-key", ["{picture.png}"]),
    ("make-key", ["{folder}/inner/../../picture.png/x.pem"]),
    ("replay", ["{bad}", "--mapping", "{bad}"]),
]


@pytest.mark.parametrize(("command", "words"), FILES, ids=[f"{number}-{case[0]}" for number, case in enumerate(FILES)])
def test_files_that_are_none(platform_files: dict[str, Any], command: str, words: list[str]) -> None:
    """A missing file, a folder where a file is expected, an empty one, one that holds something else."""
    kinds = (
        ["missing", "folder"] if command.startswith("appeal") else list(platform_files["bad"])
    )  # other files would be sent
    for bad in [platform_files["bad"][kind] for kind in kinds] if any("{bad}" in word for word in words) else [None]:
        filled: list[object] = []
        for word in words:
            if word == "{access}":
                filled += platform_files["access"]
                continue
            text = word.replace("{bad}", str(bad))
            for name in ("acme.pem", "acme.suite.json", "garbage", "users.csv", "cases.json", "picture.png", "folder"):
                text = text.replace("{" + name + "}", str(platform_files["folder"] / name))
            filled.append(text)
        refused(*command.split(), *filled)


@pytest.mark.parametrize("command", commands())
def test_usage_errors_are_json_where_it_is_asked_for(command: str) -> None:
    """Wherever `--json` stands, and whatever is wrong: an unknown option, a missing one, one word too many."""
    for words in (["--nonsense", "--json"], ["--json", "--nonsense"], ["--json", *["+86 138 0013 8000"] * 40]):
        many = ("inspect", "referral", "pictures search", "holder certify", "holder finish")
        if command in many and "--nonsense" not in words:
            continue  # these take any number of words
        result = invoked(*command.split(), *words)
        assert result.exit_code == ExitCode.USAGE, (command, result.output)
        error = json.loads(result.stdout)["error"]
        assert error["code"] == "usage"
        assert error["details"]["command"] == f"refund-ledger {command}"
        assert error["message"]
        assert "138" not in result.output, "an identifier whose option was forgotten is not repeated"


def test_every_usage_line_names_the_command() -> None:
    for command in ("", "lookup", "report", "report send", "keys show"):
        text = invoked(*command.split(), "--help").stdout
        assert f"Usage: {f'refund-ledger {command}'.strip()} " in " ".join(text.split()), text
        assert "python -m" not in text
    assert "Usage: refund-ledger lookup" in invoked("lookup", "--nonsense").stderr
    assert get_command(app).name == "refund-ledger"


def test_what_is_missing_is_named_with_both_ways_to_give_it() -> None:
    result = invoked("lookup", "--order", "1", "--phone", "+86 138 0013 8000", "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (ExitCode.USAGE, "configuration_error")
    for name in ("--suite", "REFUND_LEDGER_SUITE", "REFUND_LEDGER_SUITE_JSON"):
        assert name in error["message"]


def test_the_commands_take_suite_and_keys_from_the_environment(platform_files: dict[str, Any], tmp_path: Path) -> None:
    folder = platform_files["folder"]
    environment = {
        "REFUND_LEDGER_SUITE_JSON": (folder / "acme.suite.json").read_text(),
        "REFUND_LEDGER_KEY_PEM": (folder / "acme.pem").read_text(),
        "REFUND_LEDGER_ORDER_KEY_TEXT": (folder / "acme.order.key").read_text(),
        "REFUND_LEDGER_STATE": str(tmp_path / "state"),
    }
    result = invoked("report", "outbox", "--json", **environment)
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"items": []}), result.output
    assert (tmp_path / "state" / "outbox.db").exists()
    looked = invoked(
        "lookup", "--order", "1", "--phone", "+86 138 0013 8000", "--consent-ref", "c", "--json", **environment
    )
    assert json.loads(looked.stdout)["unavailable_because"], looked.output
    broken = invoked("report", "outbox", "--json", **{**environment, "REFUND_LEDGER_KEY_PEM": "SECRET"})
    assert broken.exit_code == ExitCode.USAGE
    assert "SECRET" not in broken.output
    assert "REFUND_LEDGER_KEY_PEM" in broken.output


# --- standard streams, locales, Ctrl-C: real processes ----------------------------------------------------------------

INTERRUPTED_IMPORT = """
import os, signal, sys
# A background job of a shell ignores SIGINT, and its children with it: as in a terminal from here on.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "ledger.cli.%s":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stop())
from ledger.cli import main
sys.argv = ["refund-ledger", "lookup"]
main()
"""


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What a shell makes of the command, in which RL is `refund-ledger`."""
    script = f'RL() {{ "{sys.executable}" -m ledger "$@"; }}; {command}'
    known = {name: value for name, value in os.environ.items() if not name.startswith(("REFUND_LEDGER_", "LC_"))}
    return subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env={**known, **environment}, capture_output=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    ("command", "code", "said", "environment"),
    [
        ("RL report outbox {access} >/dev/full", 2, b"Standard output", {}),
        ("RL report outbox {access} --json >&-", 2, b"Standard output is closed", {}),
        ("RL appeal answer ap_abcdefgh {access} --party reporter --text-file - <&-", 2, b"input is closed", {}),
        ("RL lookup --order 1 --phone 13800138000 --region CN {access}", 4, b"", {"LC_ALL": "C", "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0"}),
    ],
)  # fmt: skip
def test_streams_and_locales(
    platform_files: dict[str, Any], command: str, code: int, said: bytes, environment: dict[str, str]
) -> None:
    access = " ".join(f"'{item}'" for item in platform_files["access"])
    done = shell(command.replace("{access}", access), **environment)
    assert done.returncode == code, done
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


@pytest.mark.parametrize("module", ["commands", "output"])
def test_ctrl_c_while_modules_load_is_one_line(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT % module], cwd=ROOT, capture_output=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"Interrupted.\n")
