"""Random tables of customers, good and damaged, and a search for what was in them in all that the commands write.

`hunt` makes one table, runs `tag --csv`, `tag --in` (twice, so that it goes on) and `report send --file` on it, and
looks for every identifier of the table, in its spelling, in digits alone and in normal form, in everything that was
written: standard output, standard error, output and error files, logs, exceptions with all that are chained to them,
and the state folder.
"""

from __future__ import annotations

import json
import logging
import random
import secrets
import shutil
import traceback
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from typer.testing import CliRunner

from ledger.cli import app, output
from ledger.client.identity.keyfiles import load_or_create_signing_key
from ledger.client.tables.reader import DELIMITERS
from ledger.errors import InvalidIdentifier
from ledger.protocol.identifiers import canonical
from tests.client.small_ledger import small_ledger
from tests.commands import build_commands_once

Found = tuple[str, str]
"""(where, which spelling)"""

_LEAST = 7
"""Characters of the shortest spelling that is looked for: shorter ones occur by chance."""

_HEADERS = {
    "phone": ["phone", "Phone", "PHONE ", "ｐｈｏｎｅ", "手机号", "mobile"],
    "email": ["email", "Email", "E-Mail", "邮箱"],
    "cn_id": ["cn_id", "CN-ID", "身份证号"],
    "payment": ["payment", "Payment", "银行卡号"],
    "device": ["device", "DEVICE"],
}
_ENCODINGS = ["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030", "gbk"]


@dataclass
class Case:
    """A table, how to read it, and the identifiers in it."""

    data: bytes
    options: list[str]
    identifiers: list[tuple[str, str]] = field(default_factory=list)
    note: str | None = None


_FORMS = {
    "phone": [
        "+86 13{0} {1} {2}", "+8613{0}{1}{2}", "13{0}{1}{2}", "+86-13{0}-{1}-{2}", "+86（13{0}）{1}{2}",
        "＋８６ 13{0} {1} {2}", "13{0}{1}{2}0",
    ],
    "email": ["u{1}{2}@example.com", " Li.{1}{2}@Example.COM", "u{1}{2}@mail.例子.中国", "u{1}{2}@@example.com"],
    "payment": ["alipay/2088{1}{2}1234", "Wallet/ab{1}{2}cd", "4111 1111 1111 1111", "4111{1}{2}000000"],
    "cn_id": ["11010519491231002X", "11010519491231002x", "440524188001010014", "1101051949{1}{2}"],
    "device": ["550E8400-E29B-41D4-{1}-446655440000", "{1}-aBcDeF0123456789", "{1}"],
}  # fmt: skip
"""How people write identifiers; the last form of each is malformed (of card numbers mostly)."""


def some_identifier(chance: random.Random, kind: str) -> str:
    """An identifier of that kind; one of twenty is malformed."""
    forms = _FORMS[kind][-1:] if chance.random() < 0.05 else _FORMS[kind][:-1]
    digits = [chance.choice("56789"), *("".join(chance.choices("0123456789", k=4)) for _ in range(2))]
    return chance.choice(forms).format(*digits)


def spellings(kind: str, raw: str) -> set[str]:
    """The forms of an identifier that must not be found anywhere, in small letters."""
    folded = unicodedata.normalize("NFKC", raw).casefold()
    digits = "".join([char for char in folded if char.isdecimal()]).lstrip("0")
    values = {raw.strip().casefold(), folded.strip(), _compact(folded), digits}
    for region in ("CN", None):
        with suppress(InvalidIdentifier):
            value = canonical(kind, raw, region=region).decode().partition(":")[2].removeprefix("pan:").casefold()
            values |= {value, _compact(value), value.removeprefix("+86")}
    return {item for item in values if len(item) >= _LEAST}


def _compact(text: str) -> str:
    return "".join([char for char in text if char.isalnum()])


def leaks(texts: dict[str, str], identifiers: Sequence[tuple[str, str]]) -> list[Found]:
    """Where which of the identifiers is found, in whatever spelling."""
    expected = {form for kind, raw in identifiers for form in spellings(kind, raw)}
    results: list[Found] = []
    for where, text in texts.items():
        small = unicodedata.normalize("NFKC", text).casefold()
        lines = "\n".join([_compact(line) for line in small.splitlines()])
        results += [(where, form) for form in expected if form in small or (form.isalnum() and form in lines)]
    return results


def make_case(chance: random.Random) -> Case:
    """A random table: half of them as they should be, the others with one thing wrong."""
    wrong = chance.choice([None, None, None, "cells", "cells", "ids", "header", "encoding", "delimiter", "columns"])
    kinds = chance.sample(list(_HEADERS), chance.randint(1, 3))
    columns: list[tuple[str, str]] = [(kind, chance.choice(_HEADERS[kind])) for kind in kinds]
    columns.insert(chance.randint(0, len(columns)), ("id", chance.choice(["id", "member no", "account"])))
    if chance.random() < 0.5:
        columns.insert(chance.randint(0, len(columns)), ("note", chance.choice(["note", "Note ", "phone_tag"])))
    known: list[tuple[str, str]] = []
    rows: list[list[str]] = []
    for number in range(chance.randint(0, 5)):
        mine = {kind: some_identifier(chance, kind) for kind in kinds}
        known += mine.items()
        theirs = chance.choice(list(mine.values()))
        others = {
            "id": theirs
            if wrong == "ids"
            else chance.choice([f"c{number}", f'"{number}', f"a\r{number}", f"l\n{number}"]),
            "note": chance.choice(["", "nothing", 'say "hi", bye', *[f"call {theirs}"] * (wrong == "cells")]),
        }
        cells = mine | others
        # An id or a note with an identifier is known by its row, so that row has it.
        full = wrong in ("ids", "cells")
        rows.append([cells[what] if full or what in others or chance.random() < 0.9 else "" for what, _ in columns])
    header = rows[0] if wrong == "header" and rows else [name for _, name in columns]
    encoding, delimiter = chance.choice(_ENCODINGS), chance.choice(list(DELIMITERS))
    end = chance.choice(["\n", "\r\n", "\r"])
    mark = DELIMITERS[delimiter]
    text = "".join([mark.join([_quoted(cell, mark, chance) for cell in row]) + end for row in [header, *rows]])
    if wrong == "cells":
        text = _damaged(text, chance)
    options = ["--encoding", chance.choice(_ENCODINGS) if wrong == "encoding" else encoding]
    if chance.random() < 0.8:
        options += ["--region", "CN"]
    if wrong == "delimiter" or chance.random() < 0.3:
        options += ["--delimiter", chance.choice(list(DELIMITERS)) if wrong == "delimiter" else delimiter]
    for kind, name in columns:
        if kind in _HEADERS and wrong != "columns":
            options += ["--column", f"{kind}={name}"]
    note = next((name for what, name in columns if what == "note"), None)
    return Case(text.encode(encoding, "ignore"), options, known, note if chance.random() < 0.5 else None)


def _quoted(cell: str, delimiter: str, chance: random.Random) -> str:
    if set(cell) & {delimiter, '"', "\r", "\n"} or chance.random() < 0.2:
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _damaged(text: str, chance: random.Random) -> str:
    place = chance.randint(0, len(text))
    what = chance.choice(
        ['"', '"', "\0", "\r", "\n", *",;\t", "\ufeff", "\u200b", "x" * 70_000, "cut", "drop", "swallow"]
    )
    if what == "swallow":  # two stray quotes, with whole rows between them
        starts = [at + 1 for at, char in enumerate(text) if char in ",;\t\r\n"] or [0]
        first, last = sorted(chance.choices(starts, k=2))
        return text[:first] + '"' + text[first:last] + '"' + text[last:]
    if what == "cut":
        return text[:place]
    return text[:place] + ("" if what == "drop" else what) + text[place + (what == "drop") :]


def hunt(chance: random.Random, access: list[str], folder: Path) -> Counter[str]:
    """Make a table, run the commands on it and search; how the commands ended. Raises AssertionError for a leak."""
    case = make_case(chance)
    home = folder / secrets.token_hex(4)
    home.mkdir()
    table, out, bad = home / "table.csv", home / "out.csv", home / "bad.csv"
    table.write_bytes(case.data)
    common = [*access, "--state-dir", str(home / "state"), *case.options]
    keep = [] if case.note is None else ["--keep", case.note]
    form = ["--json"] if chance.random() < 0.3 else []
    runs: list[tuple[list[str], bytes | None]] = [
        (["tag", *common, "--csv", "-", *keep, *form], case.data),
        (["tag", *common, "--in", str(table), "--out", str(out), "--errors", str(bad), *form], None),
        (["tag", *common, "--in", str(table), "--out", str(out), "--errors", str(bad)], None),
        (["report", "send", *common, "--file", "-", "--errors", str(home / "reports.csv"), *form], case.data),
    ]
    texts: dict[str, str] = {}
    ends: Counter[str] = Counter()
    logged = StringIO()
    handler, root = logging.StreamHandler(logged), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        for number, (words, stdin) in enumerate(runs):
            output.reset()
            result = CliRunner().invoke(app, words, input=stdin)
            name = f"{number}: {' '.join(words[:2])}"
            texts[f"{name} stdout"] = result.stdout_bytes.decode("utf-8", "replace")
            texts[f"{name} stderr"] = result.stderr_bytes.decode("utf-8", "replace")
            texts[f"{name} exception"] = _all_of(result.exception)
            ends[f"{words[0]} exit {result.exit_code}"] += 1
            assert isinstance(result.exception, SystemExit | None), texts[f"{name} exception"]
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        output.reset()
    texts["log"] = logged.getvalue()
    for path in home.rglob("*"):
        if path.is_file() and path != table:
            texts[path.name] = path.read_bytes().decode("utf-8", "replace")
    matches = leaks(texts, case.identifiers)
    assert not matches, (matches, case)
    shutil.rmtree(home)
    return ends


@contextmanager
def shop(folder: Path) -> Iterator[list[str]]:
    """A small ledger, and the options that let a command reach it."""
    build_commands_once()
    with small_ledger(folder) as ledger:
        suite = folder / "acme.suite.json"
        suite.write_text(json.dumps(ledger.suite_file()))
        load_or_create_signing_key(folder / "acme.pem")
        yield ["--suite", str(suite), "--key", str(folder / "acme.pem")]


def hunt_many(folder: Path, count: int, seed: int) -> Counter[str]:
    """`hunt` `count` times. Return how the commands ended."""
    ends: Counter[str] = Counter()
    with shop(folder) as access:
        for number in range(count):
            ends += hunt(random.Random(seed + number), access, folder)
    return ends


def _all_of(error: BaseException | None) -> str:
    """An exception and all that are chained to it, as text, with their attributes."""
    parts: list[str] = []
    while error is not None:
        parts += [repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
        parts += [repr(getattr(error, name, "")) for name in ("object", "doc")]
        error = error.__cause__ or error.__context__
    return "\n".join(parts)
