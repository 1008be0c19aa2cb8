"""Clean the texts that people type or paste: invisible characters are removed, visible ones are kept.

Pasted texts have characters without a shape: isolates around a number copied from a contact (WhatsApp, iOS), a byte
order mark from a file, zero-width spaces from a web page, soft line breaks from a word processor. They are not mistakes
of the person, so the text is not refused. Bidirectional controls are removed for another reason too: they can make a
text look like another one (UAX 9; Unicode Technical Report 36, section 3).

Kept of the characters without a shape are those that writing needs, between characters that have one: ZERO WIDTH JOINER
and NON-JOINER (Persian, Indic scripts, emoji), variation selectors after the character that they vary, and the tags of
a flag (UTS 51, emoji tag sequences).
"""

from __future__ import annotations

import re
import unicodedata

_LINE_ENDS = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
"""What is a line feed in a cleaned text: CR LF, CR, VT, FF, NEL, LINE SEPARATOR and PARAGRAPH SEPARATOR."""

_JOINERS = frozenset("\u200c\u200d")
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f")
"""A black flag with the tags of a subdivision, such as England's."""

_SHAPED_FORMATS = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd\U00013430-\U0001343f]")
"""Format characters (Cf) that have a shape or arrange hieroglyphs: Arabic, Syriac, Kaithi and Egyptian signs."""

_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and symbols without a shape: the fillers of Hangul, and the Braille pattern without dots."""


def cleaned(text: str) -> str:
    """Return `text` in NFC without invisible characters and without blanks at its ends. Its only control character is
    the line feed.

    Returns "" for a text without a letter, digit, punctuation or symbol that has a shape. Cleaning a clean text does
    not change it.
    """
    before, text = None, _LINE_ENDS.sub("\n", text).replace("\t", " ")
    while text != before:  # a removal may join characters that are then removed too, or compose
        before = text
        text = unicodedata.normalize("NFC", _without_unseen(text))
        text = _stripped(text)
    return text if any(shows(character) for character in text) else ""


def shows(character: str) -> bool:
    """True if a character has a shape by itself: a letter, digit, punctuation or symbol, or one that this version of
    Unicode does not know yet."""
    category = unicodedata.category(character)
    return (category[0] in "LNPS" and character not in _BLANK_LETTERS) or category in ("Co", "Cn")


def _without_unseen(text: str) -> str:
    """Return `text` without controls, halves of surrogate pairs, noncharacters, format characters that no script needs
    at their position, and variation selectors that vary nothing."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    flags = {place for flag in _FLAG.finditer(text) for place in range(flag.start() + 1, flag.end())}
    kept = [character for place, character in enumerate(text) if place in flags or not _unseen(character)]
    kept_characters: list[str] = []
    for place, character in enumerate(kept):
        if character in _JOINERS:
            follows = place + 1 < len(kept) and _stands(kept[place + 1])
            if not (kept_characters and _stands(kept_characters[-1]) and follows):
                continue
        elif _varies(character) and not (kept_characters and shows(kept_characters[-1])):
            continue
        kept_characters.append(character)
    return "".join(kept_characters)


def _unseen(character: str) -> bool:
    if character == "\n" or character in _JOINERS:
        return False
    category = unicodedata.category(character)
    if category == "Cf":
        return _SHAPED_FORMATS.match(character) is None
    return category in ("Cc", "Cs", "Zl", "Zp") or _noncharacter(ord(character))


def _noncharacter(point: int) -> bool:
    """True for one of Unicode's 66 code points that are not characters in interchange."""
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF


def _varies(character: str) -> bool:
    """True if it is a variation selector: Mongolian, standardised or ideographic."""
    return (
        "\u180b" <= character <= "\u180f"
        or "\ufe00" <= character <= "\ufe0f"
        or ("\U000e0100" <= character <= "\U000e01ef")
    )


def _stands(character: str) -> bool:
    """True if a joiner may stand beside it: it shows, or belongs to one that does (a mark, a variation selector)."""
    return shows(character) or unicodedata.category(character)[0] == "M"


def _stripped(text: str) -> str:
    """Return `text` without blanks at its ends, letters without a shape included."""
    start, end = 0, len(text)
    while start < end and _blank(text[start]):
        start += 1
    while start < end and _blank(text[end - 1]):
        end -= 1
    return text[start:end]


def _blank(character: str) -> bool:
    return character.isspace() or character in _BLANK_LETTERS
