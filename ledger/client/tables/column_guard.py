"""The check that a column that is copied into an output holds no identifiers of people.

A cell that repeats an identifier of its own row is always refused. So is a cell with lines that look like rows of the
table, which a stray quote made. A cell that only reads like an identifier is refused where that is hardly ever chance:
at once for an e-mail address, a number with + and country code, a wallet account of a well-known provider, and a
mainland China mobile or citizen number within other text. Cells that are nothing but such a number may be numeric ids:
they are refused when they are more than one of five (mobile numbers), or more than one of a thousand (citizen numbers,
whose check character and birth date hardly ever fit by chance). Card numbers are refused from one of five on: a numeric
id passes the check digit in one of ten cases.

`KNOWN_HEADERS` are common headers of identifiers, for hints.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from ledger.errors import InvalidIdentifier, InvalidTable
from ledger.protocol.identifiers import canonical

KNOWN_HEADERS = {
    **dict.fromkeys(
        (
            "mobile", "mobile_phone", "mobile_number", "phone_number", "phonenumber", "phone_no", "tel", "telephone",
            "cell", "cellphone", "msisdn", "手机", "手机号", "手机号码", "电话", "电话号码", "联系电话", "移动电话",
        ),
        "phone",
    ),
    **dict.fromkeys(
        ("e_mail", "mail", "email_address", "e_mail_address", "邮箱", "电子邮箱", "电子邮件", "邮箱地址"), "email"
    ),
    **dict.fromkeys(
        ("id_card", "idcard", "cnid", "identity_number", "身份证", "身份证号", "身份证号码", "证件号", "证件号码"),
        "cn_id",
    ),
    **dict.fromkeys(
        ("card", "card_number", "card_no", "pan", "alipay", "银行卡", "银行卡号", "卡号", "支付宝", "支付账号"),
        "payment",
    ),
    **dict.fromkeys(("device_id", "deviceid", "udid", "idfa", "oaid", "imei", "设备号", "设备", "设备id"), "device"),
}  # fmt: skip
"""Headers by their normal form (`tables.normal_name`), and the kind that they most likely mean."""

_LINE_END = re.compile(r"\r\n|\r|\n")
_EMAIL = re.compile(r"[^\s@]@+[^\s@]+\.[^\s@]")  # misspelt addresses too
_PLUS = re.compile(r"\+ ?\d(?:[\s().-]*\d){7,14}")
_WALLET = re.compile(r"(?:alipay|wechat|weixin|paypal|venmo|unionpay|douyin|jdpay|qq)/[\w.-]{6,}")
_CN_ID = re.compile(r"(?<![0-9a-z])\d{17}[\dx](?![0-9a-z])")
_CN_MOBILE = re.compile(r"(?<![0-9a-z])(?:(?:00)?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![0-9a-z])")
_CARD = re.compile(r"(?<!\d)[2-6](?:[ -]?\d){12,18}(?!\d)")

_SHARES = {"citizen number": 0.001, "mobile number": 0.2, "card number": 0.2}
"""Findings that may be chance, and the share of a column's cells from which they no longer are."""


def repeats(cell: str, kind: str, raw: str) -> bool:
    """True if `cell` holds the identifier `raw` of this kind, in whatever spelling, or a long part of its number."""
    text, value = _folded(cell), _folded(raw)
    if kind == "email":
        return len(value) > 4 and value in text
    if kind == "phone":
        digits, number = _digits(text), _digits(value)
        return (len(number) > 6 and number in digits) or (len(digits) > 7 and digits in number)
    account = value.partition("/")[2]
    whole, part = _letters(text), _letters(account if kind == "payment" and account else value)
    if kind == "device":
        return len(part) > 7 and part in whole
    return (len(part) > 5 and part in whole) or (len(whole) > 11 and whole in part)


def reads_like(cell: str) -> str | None:
    """Return the kind of identifier that the cell looks like: a key of `_SHARES`, or one that is hardly ever chance;
    None for no identifier."""
    if len(cell) < 6:
        return None
    text = _folded(cell)
    if "@" in text and _EMAIL.search(text):
        return "e-mail address"
    if "+" in text and _PLUS.search(text):
        return "phone number"
    if "/" in text and _WALLET.search(text):
        return "wallet account"
    if sum(char.isdecimal() for char in text) < 11:
        return None
    for digits in _CN_ID.findall(text):
        if _valid("cn_id", digits):
            return "citizen number" if digits == text else "citizen number in a text"
    mobile = _CN_MOBILE.search(text)
    if mobile is not None:
        return "mobile number" if text.isdecimal() else "mobile number in a text"
    if any(_valid("payment", digits) for digits in _CARD.findall(text)):
        return "card number"
    return None


def _valid(kind: str, raw: str) -> bool:
    with suppress(InvalidIdentifier):
        canonical(kind, raw)
        return True
    return False


def _folded(text: str) -> str:
    """Return NFKC, small letters, without blanks around it and without characters that cannot be seen, but for line
    ends."""
    if text.isascii():
        return text.lower().strip()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join([char for char in folded if char in "\t\r\n" or unicodedata.category(char)[0] != "C"]).strip()


def _digits(text: str) -> str:
    return "".join([char for char in text if char.isdecimal()]).lstrip("0")


def _letters(text: str) -> str:
    return "".join([char for char in text if char.isalnum()])


class ColumnGuard:
    """Watches the columns at `places` while a table is read. `trusted` of them may hold what reads like an identifier,
    because the user says that it is none. A row has `delimiters` times `delimiter`."""

    def __init__(self, places: Sequence[int], trusted: Sequence[int], delimiter: str, delimiters: int) -> None:
        self._places = tuple(places)
        self._trusted = frozenset(trusted)
        self._delimiter = delimiter
        self._delimiters = delimiters
        self._cells: Counter[int] = Counter()
        self._found: Counter[tuple[int, str]] = Counter()
        self._first: dict[tuple[int, str], int] = {}

    def see(self, line: int, cells: Sequence[str], identifiers: Sequence[tuple[str, str]]) -> None:
        """Check one row with its (kind, raw) identifiers. Raises InvalidTable for an identifier in a copied column."""
        for place in self._places:
            cell = cells[place]
            if not cell or cell.isspace():
                continue
            for kind, raw in identifiers:
                if repeats(cell, kind, raw):
                    raise InvalidTable(
                        f"Line {line}, column {place + 1}: the cell, which would be copied, repeats the {kind} of its "
                        "row. Copy another column: --id, --keep.",
                        line=line, column=place + 1,
                    )  # fmt: skip
            if place in self._trusted:
                continue
            if any(line.count(self._delimiter) == self._delimiters for line in _LINE_END.split(cell)[1:]):
                raise InvalidTable(
                    f"Line {line}, column {place + 1}: the cell, which would be copied, has lines like rows of the "
                    "table; is a quote missing or too many? If not, say --not-identifiers.",
                    line=line, column=place + 1,
                )  # fmt: skip
            self._cells[place] += 1
            kind_found = reads_like(cell)
            if kind_found is not None:
                self._found[place, kind_found] += 1
                self._first.setdefault((place, kind_found), line)

    def finish(self) -> None:
        """Raise InvalidTable for a column that holds what reads like identifiers."""
        for (place, kind), count in self._found.items():
            if count > _SHARES.get(kind, 0) * self._cells[place]:
                line = self._first[place, kind]
                raise InvalidTable(
                    f"Line {line}, column {place + 1}: the cell, which would be copied, reads like an identifier "
                    f"({kind}; {count} of {self._cells[place]} cells). Copy another column (--id, --keep), or say that "
                    "this one holds no identifiers of people (--not-identifiers).",
                    line=line, column=place + 1, cells=count,
                )  # fmt: skip
