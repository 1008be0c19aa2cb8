"""Normalisation: the published vectors, stability, and messages that never repeat what was given."""

from __future__ import annotations

import json
import re
import traceback
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.errors import (
    InvalidCnId,
    InvalidDevice,
    InvalidEmail,
    InvalidIdentifier,
    InvalidPayment,
    InvalidPhone,
    UnsupportedKind,
)
from ledger.protocol.identifiers import MAX_RAW_CHARS, STRONG_KINDS, Kind, canonical, parse_kind
from tests.counts import trials

DOCS = Path(__file__).resolve().parents[2] / "docs"
VECTORS = json.loads((DOCS / "vectors" / "identifiers.json").read_text("utf-8"))
ERROR_OF = {
    Kind.PHONE: InvalidPhone,
    Kind.EMAIL: InvalidEmail,
    Kind.CN_ID: InvalidCnId,
    Kind.PAYMENT: InvalidPayment,
    Kind.DEVICE: InvalidDevice,
}


def run(vector: dict[str, Any]) -> bytes:
    options = {name: vector[name] for name in ("region", "fold_mailbox") if name in vector}
    return canonical(vector["kind"], vector["raw"], **options)


def name_of(vector: dict[str, Any]) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{vector['kind']} {vector['why']}".lower())


@pytest.mark.parametrize("vector", VECTORS["good"], ids=name_of)
def test_published_good_vectors(vector: dict[str, Any]) -> None:
    assert run(vector).decode("utf-8") == vector["canonical"]


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=name_of)
def test_published_bad_vectors(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidIdentifier) as caught:
        run(vector)
    assert caught.value.code == vector["error"]


@pytest.mark.parametrize("vector", [v for v in VECTORS["bad"] if len(v["raw"].strip()) >= 4], ids=name_of)
def test_no_error_repeats_the_value(vector: dict[str, Any]) -> None:
    with pytest.raises(InvalidIdentifier) as caught:
        run(vector)
    error = caught.value
    # Nor may a chained error of another library: its message often quotes the input, and tracebacks get logged.
    assert error.__cause__ is None
    assert error.__context__ is None
    said = "".join(traceback.format_exception_only(error)) + repr(error.details)
    assert vector["raw"].strip() not in said
    digits = re.sub(r"\D", "", vector["raw"])
    assert len(digits) < 4 or digits not in re.sub(r"\D", "", said)


def test_the_vectors_cover_every_kind_and_the_page_counts_them() -> None:
    good, bad = VECTORS["good"], VECTORS["bad"]
    assert {v["kind"] for v in good} == set(Kind)
    codes = {error.code for error in (*ERROR_OF.values(), UnsupportedKind, InvalidIdentifier)}
    assert {v["error"] for v in bad} == codes
    page = (DOCS / "identifiers.md").read_text("utf-8")
    assert f"({len(good)} accepted, {len(bad)} refused)" in page
    assert all(f"`{code}`" in page for code in codes)


@pytest.mark.parametrize("name", ["account", "user_id", "uid", "openid", "PHONE", "phone ", "", "13800138000"])
def test_platform_accounts_and_unknown_kinds_are_unsupported(name: str) -> None:
    with pytest.raises(UnsupportedKind):
        canonical(name, "10086")


def test_swapped_arguments_do_not_leak_the_value() -> None:
    with pytest.raises(UnsupportedKind) as caught:
        canonical("+8613800138000", "phone")
    assert "138" not in str(caught.value)
    assert caught.value.__context__ is None


def test_kinds() -> None:
    assert [parse_kind(kind.value) for kind in Kind] == list(Kind)
    assert {kind for kind in Kind if kind in STRONG_KINDS} == {Kind.CN_ID, Kind.PAYMENT}


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_no_text_or_too_long_or_blank_is_refused(kind: Kind) -> None:
    for raw in ("", " \t\u3000", "1" * (MAX_RAW_CHARS + 1), 13800138000, b"+8613800138000", None):
        with pytest.raises(InvalidIdentifier):
            canonical(kind, raw)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(Kind))
@given(raw=st.text(max_size=40))
@example(raw="\ud800")
@example(raw="+")
@settings(deadline=None, max_examples=trials(36, 60))
def test_any_text_gives_canonical_bytes_or_a_named_error(kind: Kind, raw: str) -> None:
    try:
        value = canonical(kind, raw, region="CN")
    except InvalidIdentifier as error:
        assert type(error) in (InvalidIdentifier, ERROR_OF[kind])  # noqa: PT017 - both outcomes are right here
    else:
        assert value.startswith(kind.value.encode() + b":")


def full_width(text: str) -> str:
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


mobiles = st.builds("+86138{:08d}".format, st.integers(0, 10**8 - 1))
emails = st.from_regex(r"[A-Za-z0-9]{1,10}(\.[A-Za-z0-9]{1,5})?(\+[a-z]{1,4})?@[A-Za-z]{1,8}\.com", fullmatch=True)
# A UUID needs six different digits to be taken for one.
devices = st.uuids().map(str).filter(lambda text: len(set(text) - {"-"}) >= 6)
wallets = st.from_regex(r"[A-Za-z]{5,8}/[A-Za-z0-9._-]{6,20}", fullmatch=True)


@given(
    st.one_of(
        mobiles.map(lambda v: (Kind.PHONE, v)),
        emails.map(lambda v: (Kind.EMAIL, v)),
        devices.map(lambda v: (Kind.DEVICE, v)),
        wallets.map(lambda v: (Kind.PAYMENT, v)),
    )
)
@settings(deadline=None, max_examples=trials(36, 3000))
def test_a_canonical_value_is_its_own_canonical_value(case: tuple[Kind, str]) -> None:
    kind, raw = case
    once = canonical(kind, raw)
    value = once.decode("utf-8").removeprefix(f"{kind.value}:")
    assert canonical(kind, value) == once
    assert canonical(kind, full_width(raw)) == once
    assert canonical(kind, f"  {raw}\n") == once


@given(emails)
@settings(deadline=None, max_examples=trials(36, 60))
def test_case_never_tells_mailboxes_apart(address: str) -> None:
    assert canonical("email", address.upper()) == canonical("email", address.lower())
    assert canonical("email", address.upper(), fold_mailbox=True) == canonical("email", address, fold_mailbox=True)


@given(st.integers(0, 99999), st.sampled_from(["110105", "310101", "440306"]), st.integers(0, 16), st.integers(1, 9))
@settings(deadline=None, max_examples=trials(60, 100))
def test_one_wrong_digit_in_an_identity_number_is_always_found(
    sequence: int, division: str, position: int, shift: int
) -> None:
    body = f"{division}19900307{sequence % 1000:03d}"
    # ISO 7064 MOD 11-2 by its recursive definition, not by weights as the module does it.
    remainder = 0
    for digit in body:
        remainder = (remainder + int(digit)) * 2 % 11
    number = body + "0123456789X"[(1 - remainder) % 11]
    assert canonical("cn_id", number) == b"cn_id:" + number.encode()
    wrong = number[:position] + str((int(number[position]) + shift) % 10) + number[position + 1 :]
    with pytest.raises(InvalidCnId):
        canonical("cn_id", wrong)


@given(st.integers(10**10, 10**18 - 1), st.integers(0, 18), st.integers(1, 9))
@settings(deadline=None, max_examples=trials(60, 100))
def test_one_wrong_digit_in_a_card_number_is_always_found(body: int, position: int, shift: int) -> None:
    total = 0
    for i, char in enumerate(reversed(str(body))):
        doubled = int(char) * (2 if i % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    number = f"{body}{-total % 10}"
    assert canonical("payment", number) == b"payment:pan:" + number.encode()
    position %= len(number)
    wrong = number[:position] + str((int(number[position]) + shift) % 10) + number[position + 1 :]
    with pytest.raises(InvalidPayment):
        canonical("payment", wrong)


def mod_11_2_by_the_standard(number: str) -> bool:
    """GB 11643-1999 annex: the weighted sum of 17 digits, and the table of check characters by its remainder."""
    total = sum(2 ** (17 - place) % 11 * int(digit) for place, digit in enumerate(number[:17]))
    return "10X98765432"[total % 11] == number[17]


def luhn_by_the_standard(number: str) -> bool:
    """ISO/IEC 7812-1 annex B: from the right, every second digit doubled, and the digits of the products added."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value // 10 + value % 10
    return total % 10 == 0


@settings(max_examples=trials(180, 10_000))
@given(
    st.sampled_from(["110101", "310115", "440305", "810000", "910000"]),
    st.dates(date(1900, 1, 1), date(2099, 12, 31)),
    st.integers(0, 999),
    st.sampled_from("0123456789Xx"),
)
def test_an_identity_number_is_accepted_exactly_if_the_standard_says_so(
    division: str, birth: date, order: int, check: str
) -> None:
    number = f"{division}{birth:%Y%m%d}{order:03}{check}"
    if mod_11_2_by_the_standard(number.upper()):
        assert canonical(Kind.CN_ID, number) == f"cn_id:{number.upper()}".encode()
    else:
        with pytest.raises(InvalidCnId, match="check character"):
            canonical(Kind.CN_ID, number)


@settings(max_examples=trials(180, 10_000))
@given(st.from_regex(r"[1-9][0-9]{11,18}", fullmatch=True))
def test_a_card_number_is_accepted_exactly_if_the_standard_says_so(number: str) -> None:
    if luhn_by_the_standard(number):
        assert canonical(Kind.PAYMENT, number) == f"payment:pan:{number}".encode()
    else:
        with pytest.raises(InvalidPayment, match="check digit"):
            canonical(Kind.PAYMENT, number)


def test_the_region_only_reads_national_numbers() -> None:
    assert canonical("phone", "13800138000", region="CN") == canonical("phone", "+8613800138000")
    # The same digits are different numbers in Hong Kong and in Singapore.
    assert canonical("phone", "61234567", region="HK") == b"phone:+85261234567"
    assert canonical("phone", "61234567", region="SG") == b"phone:+6561234567"
    with pytest.raises(InvalidPhone):
        canonical("phone", "13800138000", region="cn")
