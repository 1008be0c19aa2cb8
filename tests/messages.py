"""The catalogues: what the code says, what the catalogues translate, and the difference.

`python -m tests.messages` adds what is missing to the catalogue of its area, untranslated, and drops what the code no
longer says; `tests/test_messages.py` demands that nothing is left to do.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from babel import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po, write_po

from ledger.rules.languages import LANGUAGES, LOCALES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "ledger" / "locale"
KEYWORDS = {"gettext": None, "_": None, "ngettext": (1, 2)}
AREAS = (
    (r"rules/(reasons|guidance)", "answers"),
    (r"server/demo", "demo"),
    (r"appeals/(record_texts|consumer_record)", "me"),
    (r"/console", "console"),
    (r"api/consumer/", "me"),
    (r"/webhook", "webhooks"),
    (r"/evidence/", "evidence"),
    (r"/referral/", "referral"),
)
"""(pattern in a source's path, area): where a new text belongs. Everything else is of the letters."""

MessageId = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault to correct: `file` is the source of a missing text, else a catalogue."""

    file: str
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}: {self.text!r}"


def extracted(roots: Iterable[Path] = (ROOT / "ledger", ROOT / "api"), base: Path = ROOT) -> dict[MessageId, list[str]]:
    """Every text in the code and its templates, with the files that say it."""
    with (FOLDER / "babel.cfg").open(encoding="utf-8") as mapping:
        methods, options = parse_mapping_cfg(mapping)  # type: ignore[no-untyped-call]
    result: dict[MessageId, list[str]] = defaultdict(list)
    for root in roots:
        for name, _line, message, _comments, _context in extract_from_dir(str(root), methods, options, KEYWORDS):
            file = str((root / name).relative_to(base))
            if file not in result[message]:
                result[message].append(file)
    return dict(result)


TRANSLATED = LOCALES[1:]
"""The languages that have catalogues: all but the one that the code is written in."""


def folder_of(language: str) -> Path:
    """The folder of a language's catalogues."""
    return FOLDER / LANGUAGES[language].folder


def catalogues(language: str, folder: Path | None = None) -> dict[str, Catalog]:
    """Catalogues of a language by file name."""
    folder = folder or folder_of(language)
    by_name = {}
    for file in sorted(folder.glob("*.po")):
        with file.open("rb") as source:
            by_name[file.name] = read_po(source, locale=LANGUAGES[language].cldr, abort_invalid=True)
    return by_name


def problems(said: dict[MessageId, list[str]], files: dict[str, Catalog]) -> list[Problem]:
    """Return the texts that are missing, empty, fuzzy, obsolete, translated in two ways, or have other placeholders."""
    results = []
    translated: dict[MessageId, list[str]] = {}
    for name, catalogue in files.items():
        results += [Problem(name, "obsolete", _shown(_id(message))) for message in catalogue.obsolete.values()]
        for message in catalogue:
            if message.id == "":
                continue
            results += [Problem(name, what, _shown(_id(message))) for what in _faults(message, said)]
            if translated.setdefault(_id(message), _strings(message)) != _strings(message):
                results.append(Problem(name, "translated otherwise in another catalogue", _shown(_id(message))))
    for message_id, sources in said.items():
        if message_id not in translated:
            results += [Problem(source, f"not in {area_of(source)}.po", _shown(message_id)) for source in sources[:1]]
    return sorted(results, key=str)


def _faults(message: Message, said: dict[MessageId, list[str]]) -> list[str]:
    if _id(message) not in said:
        return ["said nowhere"]
    result = ["fuzzy"] if message.fuzzy else []
    strings = _strings(message)
    if not strings or not all(strings):
        return [*result, "not translated"]
    ids = [message.id] if isinstance(message.id, str) else list(message.id)
    expected = {name for text in ids for name in placeholders(text)}
    if any(placeholders(text) != expected for text in strings):
        result.append("other placeholders")
    if {text.count("|") for text in strings} != {text.count("|") for text in ids}:
        result.append("another number of cells")
    return result


def placeholders(text: str) -> set[str]:
    """The `%(name)s` in a text, with their conversions."""
    return set(re.findall(r"%\(\w+\)[a-z]", text))


def area_of(source: str) -> str:
    """The area whose catalogue a new text of this source belongs to."""
    return next((area for pattern, area in AREAS if re.search(pattern, source)), "letters")


def name_of(language: str) -> str:
    """What a language is called in English."""
    return str(Locale.parse(LANGUAGES[language].cldr.partition("_")[0]).english_name)


def _id(message: Message) -> MessageId:
    return message.id if isinstance(message.id, str) else tuple(message.id)


def _strings(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string or ())


def _shown(message_id: MessageId) -> str:
    return message_id if isinstance(message_id, str) else message_id[0]


def mend(said: dict[MessageId, list[str]], language: str, folder: Path | None = None) -> list[str]:
    """Write a language's catalogues in the order of the code, with missing texts and without obsolete ones."""
    folder = folder or folder_of(language)
    folder.mkdir(exist_ok=True)
    files = catalogues(language, folder)
    homes: dict[MessageId, str] = {}
    for name, catalogue in files.items():
        homes.update({_id(message): name for message in catalogue if message.id})
    areas: dict[str, list[MessageId]] = defaultdict(list)
    for message_id, sources in said.items():
        areas[homes.get(message_id, f"{area_of(sources[0])}.po")].append(message_id)
    for name in sorted({*areas, *files}):
        old = files.get(name)
        new = Catalog(
            locale=LANGUAGES[language].folder, project="refund-credit-ledger", charset="utf-8", fuzzy=False, version="1"
        )
        new.msgid_bugs_address, new.last_translator = "see CONTRIBUTING.md", "the maintainers"
        new.language_team, new.revision_date = "the maintainers", new.creation_date
        new.header_comment = f"# {name_of(language)} texts of the refund credit ledger."
        for message_id in areas[name]:
            known = old.get(message_id) if old is not None else None
            new.add(message_id, known.string if known else None, flags=known.flags if known else ())
        if old is not None:
            new.creation_date, new.revision_date = old.creation_date, old.revision_date
        with (folder / name).open("wb") as target:
            write_po(target, new, width=120, no_location=True, ignore_obsolete=True)
    return sorted(areas)


if __name__ == "__main__":
    now_said = extracted()
    for code in TRANSLATED:
        mend(now_said, code)
        for problem in problems(now_said, catalogues(code)):
            sys.stdout.write(f"{code}: {problem}\n")
