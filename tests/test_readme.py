"""The README's way from nothing to the first answers, run unchanged in a copy of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.faulty import free_port
from tests.support import ROOT

READMES = ("README.md", "README.zh-CN.md")
SECTION = ("## Use it from Python", "## 在 Python 中使用")
COPIED = ("ledger", "api", "migrations", "requirements", "Makefile", "pyproject.toml")
SECONDS = 120
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS")
"""What `make test ARGS=...` exports: with these the README's own `make` commands would get its arguments."""

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def blocks(number: int, language: str) -> list[str]:
    """The code of the section about Python in one of the READMEs."""
    text = (ROOT / READMES[number]).read_text("utf-8")
    section = text[text.index(SECTION[number]) :]
    section = section[: section.index("\n## ", 1)]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def words(block: str) -> list[str]:
    """The commands of a block without their comments."""
    return [re.sub(r"\s+#.*", "", line).strip() for line in block.splitlines()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, in a folder with a blank and Chinese in its name, with the environment of these tests."""
    folder = tmp_path_factory.mktemp("退款 账本")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)  # with the compiled files, which are good for the copy too
        else:
            shutil.copy(source, folder / name)
    environment = folder / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    for name in ("lib", "lib64", "pyvenv.cfg"):
        if Path(sys.prefix, name).exists():
            (environment / name).symlink_to(Path(sys.prefix, name))
    (environment / "demo.stamp").touch()
    return folder


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The variables of a newcomer, except for the port: other tests run beside this one."""
    return {**first_terminal(os.environ), "REFUND_LEDGER_PORT": str(free_port())}


def first_terminal(variables: Mapping[str, str]) -> dict[str, str]:
    """These variables without the settings of a ledger, of Python and of an outer `make`."""
    return {
        name: value
        for name, value in variables.items()
        if not name.startswith(("REFUND_LEDGER_", "PYTHON")) and name not in OF_MAKE
    }


@pytest.fixture(scope="module")
def serving(checkout: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The terminal in which the README's first command runs."""
    command = words(blocks(0, "sh")[0])[0]
    assert command == "make serve"
    log = (checkout / "serve.log").open("w")
    server = subprocess.Popen(
        command.split(),
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if environment["REFUND_LEDGER_PORT"] in line:
                break
        else:
            pytest.fail((checkout / "serve.log").read_text())
        yield server
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)
        if server.stdout is not None:
            server.stdout.close()
        log.close()


def test_both_languages_give_the_same_commands_and_sample() -> None:
    assert [words(block) for block in blocks(0, "sh")] == [words(block) for block in blocks(1, "sh")]
    assert blocks(0, "python") == blocks(1, "python")
    assert len(blocks(0, "python")) == 1


@needs_make
def test_the_arguments_of_an_outer_make_reach_no_inner_one(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer.mk", tmp_path / "inner.mk"
    inner.write_text("ARGS ?=\nshown:\n\t@echo 'arguments: $(ARGS)'\n")
    outer.write_text("all:\n\t@env\n")
    said = subprocess.run(
        ["make", "-f", outer, "ARGS=-k readme"], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    exported = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert "ARGS" in exported["MAKEFLAGS"]
    for variables, arguments in ((exported, "-k readme"), (first_terminal(exported), "")):
        command = ["make", "-s", "--no-print-directory", "-f", str(inner)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout == f"arguments: {arguments}\n"


@needs_make
@pytest.mark.usefixtures("serving")
def test_the_readme_leads_to_the_first_answers(checkout: Path, environment: dict[str, str], tmp_path: Path) -> None:
    commands, last = (words(block) for block in blocks(1, "sh"))
    state = {**environment, "XDG_STATE_HOME": str(tmp_path)}

    def pasted(text: str) -> str:
        done = subprocess.run(
            ["sh", "-c", text], cwd=checkout, env=state, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), (text, done.stdout, done.stderr)
        return done.stdout

    said = pasted("\n".join(commands[1:]))
    assert "acme.public.pem" in said
    assert "It can be used now." in said
    (checkout / "sample.py").write_text(blocks(1, "python")[0], "utf-8")
    for _ in range(5):  # on a busy machine an answer may take longer than the 300 ms that a lookup waits
        answered, screened = pasted("\n".join(last)).splitlines()
        assert screened == "clear"
        if not answered.startswith("unavailable"):
            break
    assert answered.startswith("clear 100 "), answered
