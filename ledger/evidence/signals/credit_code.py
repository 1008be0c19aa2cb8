"""The unified social credit code of organisations in China (GB 32100-2015): 17 characters and a check character."""

from __future__ import annotations

import re

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Digits and capital letters without I, O, S, V and Z, which are taken for digits too easily."""

_FORM = re.compile(rf"[{ALPHABET}]{{2}}[0-9]{{6}}[{ALPHABET}]{{10}}\Z")
_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))


def check_character(first: str) -> str:
    """The check character of the first 17, which must be of the alphabet."""
    total = sum(ALPHABET.index(character) * weight for character, weight in zip(first, _WEIGHTS, strict=True))
    return ALPHABET[-total % 31]


def is_valid(code: str) -> bool:
    """Whether `code` has the form of a credit code and its check character is right."""
    return _FORM.match(code) is not None and check_character(code[:17]) == code[17]
