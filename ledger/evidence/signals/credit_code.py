"""The unified social credit code of organisations in China (GB 32100-2015): 17 characters and a check character."""

from __future__ import annotations

import re

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Digits and capital letters without I, O, S, V and Z, which are easily read as digits."""

_FORM = re.compile(rf"[{ALPHABET}]{{2}}[0-9]{{6}}[{ALPHABET}]{{10}}\Z")


def is_valid(code: str) -> bool:
    """True if `code` has the form of a credit code and a correct check character.

    The form is checked here, not by `stdnum.cn.uscc.validate`: that one ignores case and separators, and it refuses the
    letters that GB 32100-2015 allows as the code of the registering department (the first two characters).
    """
    from stdnum.cn import uscc  # here: most files have no label with such a code

    return _FORM.match(code) is not None and uscc.calc_check_digit(code[:17]) == code[17]
