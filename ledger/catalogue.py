"""Catalogues of translations: their files, and a reader of the texts whose codes answers carry.

These texts, of reasons and of advice, are in one file for each language, `ledger/locale/{folder}/answers.po`.
The SDK shows them too, so they are read without Babel, which a platform need not have; all other texts are read by
`ledger.i18n`. Format: the PO files of GNU gettext; only entries with one msgid and one msgstr are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from ledger.rules.guidance import ADVICE_TEXTS, Advice
from ledger.rules.languages import LANGUAGES
from ledger.rules.reasons import REASON_TEXTS, Reason

FOLDER: Traversable = files("ledger").joinpath("locale")
ANSWERS = "answers.po"

_LINE = re.compile(r'(?:(msgctxt|msgid|msgid_plural|msgstr|msgstr\[\d+\])\s+)?"((?:[^"\\]|\\.)*)"\Z')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"'}


def catalogue_files(language: str) -> list[Traversable]:
    """Return the catalogues of a language of `LANGUAGES`, sorted by name; none for the language of the code."""
    folder = FOLDER / LANGUAGES[language].folder
    catalogues = [file for file in folder.iterdir() if file.name.endswith(".po")] if folder.is_dir() else []
    return sorted(catalogues, key=lambda file: file.name)


def parse_po(text: str) -> dict[str, str]:
    """Return the translations in `text` by their msgid, without the header, untranslated, fuzzy and obsolete entries,
    and entries with plurals or contexts.

    Raises ValueError for a line that does not belong to a PO file.
    """
    translations: dict[str, str] = {}
    entry: dict[str, str] = {}
    part, fuzzy = "", False

    def close() -> None:
        if entry.keys() == {"msgid", "msgstr"} and not fuzzy and entry["msgid"] and entry["msgstr"]:
            translations[entry["msgid"]] = entry["msgstr"]
        entry.clear()

    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        match = _LINE.match(line)
        comment = line.startswith("#")
        if line and not comment and (match is None or not (match[1] or part)):
            raise ValueError(f"Line {number} of the catalogue is malformed.")
        if "msgid" in entry and (comment or (match is not None and match[1] in ("msgctxt", "msgid"))):
            close()
            fuzzy = False
        if line.startswith("#,"):
            fuzzy = fuzzy or "fuzzy" in line
        if match is not None:
            part = match[1] or part
            entry[part] = entry.get(part, "") + re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match[2])
    close()
    return translations


def reason_text(code: str, language: str) -> str:
    """Return the plain text of reason `code` in `language`. Raises ValueError for a code that does not exist."""
    return _translated(REASON_TEXTS[Reason(code)], language)


def advice_text(code: str, language: str) -> str:
    """Return the plain text of advice `code` in `language`. Raises ValueError for a code that does not exist."""
    return _translated(ADVICE_TEXTS[Advice(code)], language)


def _translated(text: str, language: str) -> str:
    return _answers(language).get(text, text)


@cache
def _answers(language: str) -> Mapping[str, str]:
    """Return the translations of the texts of codes; none for English. Raises KeyError for a language without a row."""
    file = FOLDER / LANGUAGES[language].folder / ANSWERS
    return parse_po(file.read_text(encoding="utf-8")) if file.is_file() else {}
