"""The reasons of a standing, with their texts in each language."""

from __future__ import annotations

from dataclasses import astuple, dataclass, make_dataclass
from typing import TYPE_CHECKING

from ledger.catalogue import reason_text
from ledger.rules.languages import LANGUAGES, LOCALES


class _Texts:
    """Base of results with one text for each language."""

    __slots__ = ()

    def texts(self) -> tuple[str, ...]:
        """Return the texts in the order of `LANGUAGES`."""
        return astuple(self)[1:]  # type: ignore[call-overload, no-any-return]

    def text(self, language: str) -> str:
        """Return the text in the language of this code (`LANGUAGES`). Raises KeyError for a code without a row."""
        return str(getattr(self, LANGUAGES[language].member))


if TYPE_CHECKING:

    @dataclass(frozen=True, init=False)
    class Reason(_Texts):
        """A type checker knows that an attribute is a text, and not which languages there are."""

        code: str

        def __init__(self, code: str, *texts: str, **by_member: str) -> None: ...

        def __getattr__(self, name: str) -> str: ...

else:
    Reason = make_dataclass(
        "Reason",
        [("code", str), *((language.member, str) for language in LANGUAGES.values())],
        bases=(_Texts,),
        namespace={
            "__module__": __name__,
            "__doc__": "Why a standing is what it is: a stable code, and its text in each language, an attribute each\n"
            "(`Language.member`). The texts are this version's own, or the ledger's for a code that this version does\n"
            "not know; the code itself where the ledger could not be asked.",
        },
        frozen=True,
        slots=True,
    )


def explained(code: str) -> Reason:
    """Return the reason with this version's texts. Raises ValueError for a code that this version does not know."""
    return Reason(code, *[reason_text(code, language) for language in LOCALES])


def unexplained(code: str) -> Reason:
    """Return the reason with its code in place of each text."""
    return Reason(code, *[code for _ in LOCALES])
