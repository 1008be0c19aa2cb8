"""The languages that people read: one row each, with what the formats of texts need.

A further language is one row here and one catalogue, `ledger/locale/{folder}/*.po`: requests, answers, pages, letters,
commands and the SDK take their languages from these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """One language. `code` is its BCP 47 tag in requests and answers, `cldr` the identifier that Babel's formats are
    found by, `name` what it is called in itself.

    `time_pattern` (CLDR) shows a day with its minute; `with_note` sets a remark behind a text; `between_items` joins a
    list and `between_sentences` sentences. `wide_quotes` is whether the typographic quotation marks and the ellipsis
    are as wide as a character of this language; in print, the others have the ASCII ones.
    """

    code: str
    cldr: str
    name: str
    time_pattern: str
    with_note: str
    between_items: str
    between_sentences: str
    wide_quotes: bool

    @property
    def primary(self) -> str:
        """The primary subtag, by which a browser's preference is matched."""
        return self.code.partition("-")[0]

    @property
    def member(self) -> str:
        """The name of the member of an answer, and of the attribute of an SDK result, that holds a text in it."""
        return self.code.lower().replace("-", "_")

    @property
    def folder(self) -> str:
        """The catalogues' folder."""
        return self.code.replace("-", "_")


LANGUAGES: Mapping[str, Language] = {
    language.code: language
    for language in (
        Language("en", "en", "English", "MMMM d, y, HH:mm", "{text} ({note})", ", ", " ", False),
        Language("zh-CN", "zh_Hans_CN", "中文", "y年M月d日 HH:mm", "{text}（{note}）", "、", "", True),
    )
}
"""By code; the first is the language of the texts in the code, and the one that is used where no other fits."""

MAX_CODE_CHARS = 8
"""The longest code that a row may have: the width of the database columns that hold one."""
LOCALES = tuple(LANGUAGES)
DEFAULT_LOCALE = LOCALES[0]


def language_for(tag: str) -> str | None:
    """Return the code of the language that a tag (`zh-Hant-TW`, `en_GB.UTF-8`) has the primary subtag of, if there is
    one."""
    primary = tag.strip().lower().replace("_", "-").partition("-")[0].partition(".")[0]
    return next((language.code for language in LANGUAGES.values() if language.primary == primary), None)
