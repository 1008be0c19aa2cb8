"""`pictures search`, `pictures benign` and `lookup --picture`, with pictures in files, against a running ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.cli.exit_codes import ExitCode
from ledger.client import PictureHash
from ledger.evidence.perceptual_hash import pdq
from tests.cli.test_operator import without
from tests.client.test_pictures import report
from tests.evidence.test_pdq import scene
from tests.kit import Connect, Running, person
from tests.support import server_environment


def machine(*arguments: object, code: int = 0, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON that the command prints, with its exit code checked."""
    output.reset()
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], env=env)
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


def words(*arguments: object) -> str:
    """What the command prints for people, in one line."""
    output.reset()
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


@pytest.fixture
def access(running: Running, tmp_path: Path) -> list[object]:
    return ["--suite", running.suite("asker"), "--key", running.key("asker"), "--state-dir", tmp_path / "state"]


def picture(folder: Path, seed: int) -> tuple[Path, Path]:
    """A picture as it was sent once, and again: smaller, as a JPEG."""
    first, again = folder / f"first-{seed}.png", folder / f"again-{seed}.jpg"
    image = Image.fromarray(scene(600, 800, seed))
    image.save(first)
    image.resize((400, 300)).save(again, quality=60)
    return first, again


def hashed(file: Path) -> PictureHash:
    hashed_file = pdq.hash_file(file)
    return PictureHash(hashed_file.hex, hashed_file.quality)


def test_a_picture_that_was_sent_again_is_found(
    access: list[object], running: Running, connect: Connect, tmp_path: Path
) -> None:
    first, again = picture(tmp_path, 11)
    _, other = picture(tmp_path, 12)
    acme = connect("acme")
    sent = report(acme, person(), hashed(first))
    answer = machine("pictures", "search", again, other, "--order", "A-1", *access)["results"]
    assert [(item["reports"], item["platforms"], item["common"]) for item in answer] == [(1, 1, False), (0, 0, False)]
    assert answer[0]["pdq"] == hashed(again).pdq
    said = words("pictures", "search", again, "--order", "A-1", *access, "--listing", first)
    assert "looks like the listing photo: a match is not evidence" in said

    report(connect("bazaar"), person(), hashed(again))
    own = ["--suite", running.suite("acme"), "--key", running.key("acme"), "--state-dir", tmp_path / "acme"]
    assert machine("pictures", "search", "--report", sent, *own)["results"] == [
        {"reports": 1, "platforms": 1, "own_reports": 0, "more": False, "common": False}
    ]


def test_a_lookup_says_it_too(access: list[object], connect: Connect, tmp_path: Path) -> None:
    first, again = picture(tmp_path, 13)
    report(connect("acme"), person(), hashed(first))
    arguments = [
        "lookup",
        *access,
        "--order",
        "A-1",
        "--phone",
        person()["phone"],
        "--timeout-ms",
        5000,
        "--consent-ref",
        "c",
    ]
    answer = machine(*arguments, "--picture", again)
    assert (answer["tier"], [picture["reports"] for picture in answer["pictures"]]) == ("clear", [1])
    said = words(*arguments, "--picture", again)
    assert "again-13.jpg used in 1 confirmed reports by 1 other members" in said
    assert machine(*arguments)["pictures"] is None


def test_benign_pictures(access: list[object], running: Running, connect: Connect, tmp_path: Path) -> None:
    first, again = picture(tmp_path, 14)
    report(connect("acme"), person(), hashed(first))
    env = server_environment(running.settings)
    search = ["pictures", "search", first, "--order", "A-1", *access]
    added = machine("pictures", "benign", "add", "--file", again, "--reason", "the shop's photo", env=env)
    assert added == {"pdq": hashed(again).pdq}
    assert [result["common"] for result in machine(*search)["results"]] == [True]
    assert "a common picture: a match is not evidence" in words(*search)
    listed = machine("pictures", "benign", "list", env=env)["benign"]
    assert [(row["pdq"], row["reason"]) for row in listed] == [(hashed(again).pdq, "the shop's photo")]
    machine("pictures", "benign", "remove", "--pdq", hashed(again).pdq, "--reason", "it was not", env=env)
    assert [result["reports"] for result in machine(*search)["results"]] == [1]
    for arguments, code, name in (
        (["remove", "--pdq", hashed(again).pdq, "--reason", "x"], ExitCode.REFUSED, "not_found"),
        (["add", "--reason", "x"], ExitCode.USAGE, "invalid_request"),
        (["add", "--pdq", "no", "--reason", "x"], ExitCode.USAGE, "invalid_request"),
        (["add", "--pdq", "0" * 64, "--reason", "x"], ExitCode.USAGE, "picture_unfit"),
        (["add", "--pdq", hashed(again).pdq, "--reason", " "], ExitCode.USAGE, "invalid_request"),
    ):
        assert machine("pictures", "benign", *arguments, code=code, env=env)["error"]["code"] == name


def test_what_is_refused(access: list[object], tmp_path: Path) -> None:
    flat = tmp_path / "flat.png"
    Image.fromarray(np.full((100, 100, 3), 200, np.uint8)).save(flat)
    text = tmp_path / "note.txt"
    text.write_text("no picture")
    for file, code in (
        (flat, "picture_unfit"),
        (text, "picture_unreadable"),
        (tmp_path, "picture_unreadable"),
        (tmp_path / "none.jpg", "picture_unreadable"),
    ):
        refused = machine("pictures", "search", file, "--order", "A-1", *access, code=ExitCode.USAGE)
        assert refused["error"]["code"] == code
    for arguments in ([], [flat], [flat, "--order", "1", "--report", "rp_a"], ["--report", "rp_a", "--listing", flat]):
        refused = machine("pictures", "search", *arguments, *access, code=ExitCode.USAGE)
        assert refused["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    "command",
    [
        ["pictures", "search", "PICTURE", "--order", "1", "--suite", "s", "--key", "k"],
        ["lookup", "--picture", "PICTURE", "--order", "1", "--phone", "+8613800138000", "--suite", "s", "--key", "k"],
        ["pictures", "benign", "add", "--file", "PICTURE", "--reason", "x"],
    ],
)
def test_without_the_extra_it_is_named(command: list[str], tmp_path: Path) -> None:
    first, _ = picture(tmp_path, 15)
    done = without(["PIL"], *(str(first) if word == "PICTURE" else word for word in command), cwd=tmp_path)
    assert done.returncode == ExitCode.EXTRA_MISSING, done.stderr
    assert "refund-credit-ledger[evidence]" in done.stderr
    assert "Traceback" not in done.stderr
