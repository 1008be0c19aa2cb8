"""The platform's wheel in an environment with nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ledger import __version__
from ledger.cli.exit_codes import ExitCode
from ledger.cli.server_missing import SERVER_COMMANDS
from tests.counts import LONG
from tests.wheels.environments import PLATFORM, SERVER, Environment, Wheel, make_environment_like

PROGRAM = Path(__file__).with_name("user_program.py")
needs_pyright = pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed")


def test_the_command_works_without_the_server(platform: Environment, tmp_path: Path) -> None:
    shown = platform.run("refund-ledger", "--help", cwd=tmp_path).stdout
    listed = {line.split()[1] for line in shown.splitlines() if line.startswith("│ ")}
    assert {"tag", "lookup", "report", "verify", "verify-rotation"} <= listed
    assert listed & set(SERVER_COMMANDS) == set()
    assert "--picture" in platform.run("refund-ledger", "lookup", "--help", cwd=tmp_path).stdout


def test_a_module_of_the_same_name_in_the_current_folder_is_passed_over(platform: Environment, tmp_path: Path) -> None:
    (tmp_path / "ledger.py").write_text("raise SystemExit('the module of the shop')\n", "utf-8")
    shown = f"refund-ledger {__version__}\n"
    assert platform.run("refund-ledger", "--version", cwd=tmp_path).stdout == shown
    assert platform.run("python", "-P", "-m", "ledger", "--version", cwd=tmp_path).stdout == shown
    hidden = platform.run("python", "-m", "ledger", "--version", cwd=tmp_path, code=1)
    assert hidden.stderr == "the module of the shop\n"


def test_it_makes_keys_and_asks_for_a_suite(platform: Environment, tmp_path: Path) -> None:
    platform.run("refund-ledger", "make-key", "acme.pem", cwd=tmp_path)
    assert (tmp_path / "acme.pem").is_file()
    arguments = ("--json", "tag", "--phone", "+86 138 0013 8000", "--key", "acme.pem")
    refused = platform.run("refund-ledger", *arguments, cwd=tmp_path, code=ExitCode.USAGE)
    assert "suite" in json.loads(refused.stdout)["error"]["message"]


@pytest.mark.some_cases(1)
@pytest.mark.parametrize(
    "arguments",
    [["serve"], ["keys", "init"], ["demo", "--dir", "d"], ["pictures", "benign", "list"], ["serve", "--help"]],
)
def test_a_command_of_the_server_names_what_to_install(
    platform: Environment, tmp_path: Path, arguments: list[str]
) -> None:
    plain = platform.run("refund-ledger", *arguments, cwd=tmp_path, code=ExitCode.EXTRA_MISSING)
    command = arguments[0] if arguments[0] != "pictures" else "pictures benign"
    assert plain.stderr == f"error: `refund-ledger {command}` needs the server: pip install {SERVER}.\n"
    machine = platform.run("refund-ledger", "--json", *arguments, cwd=tmp_path, code=ExitCode.EXTRA_MISSING)
    error = json.loads(machine.stdout)["error"]
    assert (error["code"], error["distribution"]) == ("extra_missing", SERVER)


IMPORTS = """
import importlib, json, pkgutil, sys
import ledger
answers = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
        answers[name] = True
    except ModuleNotFoundError as error:
        answers[name] = error.name
print(json.dumps(answers))
"""


def test_it_has_no_server_no_extra_and_no_other_top_level_package(platform: Environment, tmp_path: Path) -> None:
    absent = ["api", "migrations", "tests", "ledger.server", "ledger.cli.operator", "numpy", "sqlalchemy", "pip"]
    done = platform.run("python", "-c", IMPORTS, json.dumps(absent), cwd=tmp_path)
    assert json.loads(done.stdout) == {name: name for name in absent}


def test_every_module_can_be_imported_or_lacks_an_extra(
    platform: Environment, wheels: Mapping[str, Wheel], tmp_path: Path
) -> None:
    names = sorted(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in wheels[PLATFORM].names()
        if name.endswith(".py") and not name.endswith(("__main__.py", "_worker.py"))
    )
    answers = json.loads(platform.run("python", "-c", IMPORTS, json.dumps(names), cwd=tmp_path).stdout)
    lacking = {name: missing for name, missing in answers.items() if missing is not True}
    assert set(lacking.values()) <= {"numpy", "babel", "PIL", "cv2", "c2pa", "fpdf"}
    free = ("ledger.client", "ledger.protocol", "ledger.tlog", "ledger.cli")
    assert [name for name in lacking if name.startswith(free)] == []


def test_without_its_extra_the_command_names_it(
    platform: Environment, wheels: Mapping[str, Wheel], tmp_path: Path
) -> None:
    bare = make_environment_like(tmp_path / "venv", platform, wheels, PLATFORM)
    absent = {"typer": "typer", "rich": "rich"}
    done = bare.run("python", "-c", IMPORTS, json.dumps([*absent]), cwd=tmp_path)
    assert json.loads(done.stdout) == absent
    expected = "pip install 'refund-credit-ledger[cli]'"
    done = bare.run("refund-ledger", "lookup", cwd=tmp_path, code=ExitCode.EXTRA_MISSING)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert expected in done.stderr
    done = bare.run("python", "-m", "ledger", "--json", "lookup", cwd=tmp_path, code=ExitCode.EXTRA_MISSING)
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "extra_missing"
    assert expected in error["message"]
    assert bare.run("python", str(PROGRAM), cwd=tmp_path).stdout == "1 original_file indicates\n"


def checked(environment: Environment, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What mypy --strict says of `program`, with the types of the installed wheel."""
    file = folder / "program.py"
    file.write_text(program, "utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(environment.python), str(file)]
    command += ["--config-file", "", "--cache-dir", str(folder / "cache")]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not LONG, reason="half a minute without a cache: LONG_TESTS=1 runs it")
def test_a_users_program_is_checked_against_the_wheels_types(platform: Environment, tmp_path: Path) -> None:
    source = PROGRAM.read_text("utf-8")
    done = checked(platform, source, tmp_path)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")
    wrong = source.replace("tier: Tier = standing.tier", "tier: int = standing.tier")
    done = checked(platform, wrong, tmp_path)
    assert done.returncode == 1
    assert "Incompatible types in assignment" in done.stdout


@needs_pyright
def test_pyright_accepts_the_users_program(platform: Environment, tmp_path: Path) -> None:
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "include": ["program.py"]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    shutil.copy(PROGRAM, tmp_path / "program.py")
    done = subprocess.run(
        ["pyright", "--pythonpath", str(platform.python)], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
