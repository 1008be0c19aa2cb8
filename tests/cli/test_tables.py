"""Tables of customers on the command line: `tag --csv`, `tag --in`, `report send --file`, and what they never write."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ledger.cli import app, output, streams
from ledger.cli.exit_codes import ExitCode
from ledger.cli.platform.tag import progress_lines
from ledger.client import buyers
from ledger.client.identity.keyfiles import load_or_create_signing_key
from ledger.client.tables import reader as tables
from ledger.client.tables import report_files
from ledger.client.tables.output import encode_rows
from ledger.client.tables.reader import opened
from ledger.client.tables.tagging import MAX_ROWS, Tagging, tag_file
from ledger.errors import ConfigurationError, InvalidRequest
from tests.client.small_ledger import SmallLedger, small_ledger
from tests.support import ROOT

PHONES = ["+86 138 0013 8000", "+86 139 0013 8000", "+86 137 0013 8000"]
CHINESE = "会员号;姓名;手机号\r\nvip-1;王小明;138 0013 8000\r\nvip-2;李雷;13900138000\r\n".encode("gb18030")


class Shop:
    """A platform's files, and the commands run with them."""

    def __init__(self, folder: Path, ledger: SmallLedger) -> None:
        self.folder = folder
        self.ledger = ledger
        suite = folder / "acme.suite.json"
        suite.write_text(json.dumps(ledger.suite_file()))
        load_or_create_signing_key(folder / "acme.pem")
        self.access = ["--suite", str(suite), "--key", str(folder / "acme.pem"), "--state-dir", str(folder / "state")]

    def run(self, *arguments: object, stdin: bytes | None = None, code: int = 0) -> Result:
        output.reset()
        name, *others = [str(argument) for argument in arguments]
        words = [*name.split(), *self.access, *others]
        result = CliRunner().invoke(app, words, input=stdin)
        assert result.exit_code == code, (result.output, result.exception)
        return result


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with small_ledger(folder) as ledger:
        yield Shop(folder, ledger)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def tags_of(shop: Shop, *phones: str) -> list[str]:
    with shop.ledger.connect() as ledger:
        return [buyer.tags()[0][1] for buyer in buyers(ledger.tag_many([{"phone": phone} for phone in phones]))]


# --- tag --csv --------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_on_standard_input_is_no_part_of_the_header(shop: Shop) -> None:
    text = b"\xef\xbb\xbfphone,email,name\n+86 138 0013 8000,a@foo.com,Ann\n"
    output = shop.run("tag", "--csv", "-", stdin=text)
    (row,) = rows(output.stdout)
    assert row["phone_tag"] == tags_of(shop, PHONES[0])[0]
    assert row["email_tag"]
    assert list(row) == ["name", "phone_tag", "email_tag"]
    assert "8000" not in output.output
    bare = shop.run("tag", "--csv", "-", stdin=b"\xef\xbb\xbfphone\n+86 138 0013 8000\n")
    assert rows(bare.stdout) == [{"phone_tag": row["phone_tag"]}]
    capital = shop.run("tag", "--csv", "-", stdin=b"Phone,name\n+86 138 0013 8000,Ann\n")
    assert rows(capital.stdout) == [{"name": "Ann", "phone_tag": row["phone_tag"]}]


def test_only_the_columns_that_are_named_are_copied(shop: Shop) -> None:
    text = "id,name,phone,shoe,手机号\n1,Ann,+86 138 0013 8000,42,13800138000\n".encode()
    output = shop.run("tag", "--csv", "-", stdin=text)
    assert list(rows(output.stdout)[0]) == ["id", "phone_tag"]
    assert "Left out: columns 2, 4, 5" in output.stderr
    assert "Column 5 may be of kind phone" in output.stderr
    output = shop.run("tag", "--csv", "-", "--id", "name", "--keep", "Shoe", stdin=text)
    assert list(rows(output.stdout)[0]) == ["name", "shoe", "phone_tag"]
    assert "13800138000" not in output.output
    shop.run("tag", "--csv", "-", "--keep", "手机号", stdin=text, code=ExitCode.USAGE)
    shop.run("tag", "--csv", "-", "--keep", "phone", stdin=text, code=ExitCode.USAGE)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('phone,name\n+86 138 0013 8000,"Ann\n+86 139 0013 8000,Bo\n+86 137 0013 8000,Cy\n', "Line 2, column 2"),
        ("phone,phone\n+86 138 0013 8000,+86 139 0013 8000\n", "Line 1, column 2"),
        ("phone,phone_tag\n+86 138 0013 8000,old\n", "Line 1, column 2"),
        ("id,phone\n1,+86 138 0013 8000,+86 139 0013 8000\n", "Line 2"),
        ("id,phone\n1\n", "Line 2"),
        (f"id,phone\n{'x' * 140_000},+86 138 0013 8000\n", "Line 2, column 1"),
        ("id,phone\n1,+86 138 0013 8000\n2,138\n3,+86 137 0013 8000\n", "Line 3, column 2"),
        ("13800138000,Ann\n13900138000,Bo\n", "first line must name the columns"),
        ("account,phone\n13800138000,+86 138 0013 8000\n", "Line 2, column 1"),
        ("id,phone\n1,\0\n", "Line 2, column 2"),
    ],
)
def test_what_is_not_understood_is_refused_before_anything_is_written(shop: Shop, text: str, place: str) -> None:
    file, out = shop.folder / "wrong.csv", shop.folder / "never.csv"
    file.write_text(text)
    for source in (["--csv", file], ["--csv", "-"], ["--csv", file, "--json"]):
        output = shop.run("tag", *source, stdin=text.encode(), code=ExitCode.USAGE)
        assert place in " ".join(output.output.split())
        if "--json" in source:
            details = json.loads(output.stdout)["error"]["details"]
            assert details["line"] == int(place.split()[1].strip(",")) if place.startswith("Line") else 1
        else:
            assert output.stdout == ""
        assert not any(number in output.output for number in ("0013", "13800", "13900"))
    if "phone_tag" not in text and "138\n" not in text:  # fit for --in: it writes no column of that name, and goes on
        shop.run("tag", "--in", file, "--out", out, code=ExitCode.USAGE)
        assert not out.exists()


def test_a_table_of_excel_in_china(shop: Shop) -> None:
    expected = tags_of(shop, *PHONES[:2])
    form = ["--encoding", "gbk", "--column", "phone=手机号", "--region", "CN"]
    output = shop.run("tag", "--csv", "-", *form, "--keep", "姓名", stdin=CHINESE)
    assert [(row["会员号"], row["姓名"], row["phone_tag"]) for row in rows(output.stdout_bytes.decode("utf-8"))] == [
        ("vip-1", "王小明", expected[0]),
        ("vip-2", "李雷", expected[1]),
    ]
    file, out = shop.folder / "users.csv", shop.folder / "gbk.csv"
    file.write_bytes(CHINESE)
    shop.run("tag", "--in", file, "--out", out, *form)
    assert [(row["id"], row["tag"]) for row in rows(out.read_text("utf-8"))] == [
        ("vip-1", expected[0]),
        ("vip-2", expected[1]),
    ]
    hint = shop.run("tag", "--in", file, "--out", shop.folder / "never.csv", "--region", "CN", code=ExitCode.USAGE)
    assert "Line 1, character 1" in hint.stderr
    assert "gb18030" in hint.stderr
    hint = shop.run("tag", "--csv", file, "--encoding", "gbk", code=ExitCode.USAGE)
    assert "--column phone=手机号" in hint.stderr
    for wrong in (["--column", "phone"], ["--column", "phone=a", "--column", "phone=b"], ["--delimiter", "|"]):
        shop.run("tag", "--csv", file, *wrong, code=ExitCode.USAGE)
    shop.run("tag", "--in", file, "--out", out, *form, "--keep", "姓名", code=ExitCode.USAGE)


def test_output_is_utf_8_whatever_the_locale_says(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    streams.write(encode_rows([["李雷"]]))
    assert written.getvalue() == "李雷\n".encode()
    with pytest.raises(ConfigurationError, match="PYTHONUTF8"), streams.writing():
        sys.stdout.write("李雷")


class FullDisk(io.RawIOBase):
    """A disk without room, until `full` is false."""

    full = True

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)


def test_standard_streams_that_fail_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    closed, disk = io.TextIOWrapper(io.BytesIO()), FullDisk()
    closed.close()
    full = io.TextIOWrapper(io.BufferedWriter(disk))
    for stream in (None, closed, full):
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(ConfigurationError, match="Standard output"):
            streams.write(b"1\n")
        monkeypatch.setattr(sys, "stdin", stream)
        with pytest.raises(ConfigurationError, match="Standard input"), opened(streams.source(Path("-"))):
            pass
    monkeypatch.undo()
    disk.full = False
    full.close()


def test_a_closed_output_is_one_line_and_an_exit_code(shop: Shop) -> None:
    file = shop.folder / "streams.csv"
    file.write_text("id,phone\n李雷,+86 138 0013 8000\n", "utf-8")
    command = f"{sys.executable} -m ledger tag {' '.join(shop.access)} --csv {file} >&-"
    closed = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert closed.returncode == ExitCode.USAGE, closed.stderr
    assert closed.stderr.decode().strip() == "error: Standard output is closed."


def test_the_example_of_the_page_is_true(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    example = page[page.index("#### Example") : page.index("### Files of reports")]
    table, commands = re.findall(r"```(?:csv|sh)\n(.*?)```", example, re.DOTALL)
    folder = shop.folder / "example"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "customers.csv").write_bytes(table.replace("\n", "\r\n").encode("gbk"))
    for command in commands.strip().splitlines():
        words, _, printed = command.partition(" > ")
        output = shop.run(*shlex.split(words)[1:])
        if printed:
            (folder / printed).write_bytes(output.stdout_bytes)
    expected = tags_of(shop, *PHONES[:2])
    tags, users = rows((folder / "tags.csv").read_text("utf-8")), rows((folder / "users.csv").read_text("utf-8"))
    assert list(tags[0]) == ["会员号", "姓名", "phone_tag", "email_tag"]
    assert [(row["姓名"], row["phone_tag"]) for row in tags] == [("王小明", expected[0]), ("李雷", expected[1])]
    assert [(row["id"], row["kind"]) for row in users] == [("vip-1", "phone"), ("vip-1", "email"), ("vip-2", "phone")]
    assert not (folder / "errors.csv").read_text()


def test_the_limits_on_the_page_are_the_code_s() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for number in (tables.MAX_CELL_CHARS, tables.MAX_ROW_CHARS, tables.MAX_COLUMNS, report_files.MAX_REPORTS):
        assert f"{number:,}" in page
    assert f"{report_files.MAX_FILE_BYTES >> 20} MiB" in page
    assert MAX_ROWS == 1_000_000
    assert "a million rows" in page
    for encoding in re.findall(r"`([a-z0-9-]+)`", page[page.index("| encoding |") : page.index("| delimiter |")]):
        assert encoding.startswith("--") or tables.codec_of(encoding)
    for delimiter in tables.DELIMITERS:
        assert delimiter in page


# --- tag --in ---------------------------------------------------------------------------------------------------------

IDS = [
    "a\rb",
    'q"u"o',
    "l\nf",
    "c\r\nl",
    ",",
    ";",
    "\t",
    " x ",
    "\x0b",
    "\x1c",
    "\u2028",
    "\x85",
    "'",
    "",
    "王",
    "\ufeff",
]


def test_a_run_goes_on_after_any_id(shop: Shop) -> None:
    source = shop.folder / "odd.csv"
    quoted = ['"' + identifier.replace('"', '""') + '"' for identifier in IDS]
    source.write_bytes("".join(["id,phone\n", *[f"{cell},{PHONES[0]}\n" for cell in quoted]]).encode())
    whole, out = shop.folder / "odd-whole.csv", shop.folder / "odd-out.csv"
    with shop.ledger.connect() as ledger:
        assert tag_file(ledger, source, whole).identifiers == len(IDS)
        data = whole.read_bytes()
        assert [row["id"] for row in rows(data.decode())] == IDS
        for cut in range(0, len(data), 29):
            out.write_bytes(data[:cut])
            assert tag_file(ledger, source, out).finished
            assert out.read_bytes() == data
        assert tag_file(ledger, source, out).resumed == len(IDS)


def test_mostly_malformed_numbers_are_told_with_the_option_that_is_missing(shop: Shop) -> None:
    source, out = shop.folder / "national.csv", shop.folder / "national-tags.csv"
    source.write_text("id,phone,email\n" + "".join([f"c{n},138 0013 800{n},u{n}@example.com\n" for n in range(6)]))
    output = shop.run("tag", "--in", source, "--out", out, code=ExitCode.USAGE)
    advice = " ".join(output.stderr.split())
    assert "6 of 6 identifiers of kind phone are malformed" in advice
    assert "--region CN" in advice
    assert "email" not in advice
    asked = json.loads(shop.run("tag", "--in", source, "--out", out, "--json", code=ExitCode.USAGE).stdout)
    assert (asked["identifiers"], asked["invalid"], asked["mostly_malformed"]) == (12, 6, ["phone"])
    assert asked["invalid_by_kind"] == {"phone": 6}
    again = shop.run("tag", "--in", source, "--out", out, "--region", "CN", code=ExitCode.USAGE)
    assert "another --region" in " ".join(again.stderr.split()), "the malformed rows would stay"
    shop.run("tag", "--in", source, "--out", shop.folder / "national-cn.csv", "--region", "CN")
    shop.run("tag", "--csv", source, "--region", "CN")
    wrong = json.loads(shop.run("tag", "--csv", source, "--json", code=ExitCode.USAGE).stdout)["error"]
    assert wrong["code"] == "invalid_phone"
    assert wrong["details"] == {"line": 2, "column": 2, "malformed": 6}
    assert "--region" in wrong["message"]


def test_half_malformed_is_no_warning() -> None:
    assert Tagging(1, 4, 2, identifiers_by_kind={"phone": 4}, invalid_by_kind={"phone": 2}).mostly_malformed == ()
    assert Tagging(1, 4, 3, identifiers_by_kind={"phone": 4}, invalid_by_kind={"phone": 3}).mostly_malformed == (
        "phone",
    )


def test_progress_without_a_terminal_is_a_line_now_and_then() -> None:
    said: list[str] = []
    now = [0.0]
    show = progress_lines(said.append, lambda: now[0])
    for second in range(100):
        now[0] = float(second)
        show(second, 200, Tagging(1, 1000 * second, 3))
    assert said == [
        f"tagging: {second // 2} % read, {1000 * second:,} identifiers, 3 malformed" for second in (30, 60, 90)
    ]


def test_the_region_is_part_of_what_an_output_holds(shop: Shop) -> None:
    source, out = shop.folder / "mixed.csv", shop.folder / "mixed-tags.csv"
    source.write_text(f"id,phone\n1,{PHONES[0]}\n2,{PHONES[1]}\n3,13800138000\n")
    with shop.ledger.connect() as ledger:
        tag_file(ledger, source, out)
        with pytest.raises(InvalidRequest, match="region"):
            tag_file(ledger, source, out, region="CN")
