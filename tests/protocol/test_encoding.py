"""The one form of bytes, times and JSON: strict both ways, and equal to a canonicaliser written from the rules."""

from __future__ import annotations

import base64
import json
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import InvalidCanonicalForm, InvalidEncoding, InvalidTime, LedgerError
from ledger.protocol.encoding import (
    MAX_INTEGER,
    b64url,
    canonical_json,
    day_ceil,
    day_floor,
    format_time,
    from_day,
    from_hour,
    hour_floor,
    parse_time,
    unb64url,
    unix_seconds,
)

# --- base64url ----------------------------------------------------------------------------------------------


def test_base64url_vectors() -> None:
    # RFC 4648 section 10, without padding; the last line has the two characters in which base64url differs.
    pairs = [(b"", ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"foob", "Zm9vYg"), (b"\xfb\xff", "-_8")]
    for data, text in pairs:
        assert b64url(data) == text
        assert unb64url(text) == data


@given(st.binary(max_size=100))
def test_base64url_is_read_back(data: bytes) -> None:
    assert unb64url(b64url(data), len(data)) == data
    with pytest.raises(InvalidEncoding):
        unb64url(b64url(data), len(data) + 1)


@given(st.text("AQgwZz_-+/= \n9", max_size=12))
@example("AA")
@example("AB")
@example("A")
@example("AAAAA")
def test_only_the_one_text_of_a_value_is_accepted(text: str) -> None:
    try:
        data = unb64url(text)
    except InvalidEncoding:
        return
    assert base64.urlsafe_b64encode(data).rstrip(b"=").decode() == text


@pytest.mark.parametrize(
    "text", ["Zg==", "Zh", "Zm9v\n", "Zm 9v", "Zm9+", "Zm9/", "A", "Zm9vY", "Zg\u0660", "ｆg", None, 7, b"Zg"]
)
def test_other_texts_are_refused(text: Any) -> None:
    with pytest.raises(InvalidEncoding):
        unb64url(text)


# --- canonical JSON -----------------------------------------------------------------------------------------

ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def slow_canonical(value: Any) -> str:
    """Canonical JSON from its description, sharing nothing with the module but the description."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        shown = (ESCAPES.get(char, f"\\u{ord(char):04x}" if ord(char) < 32 else char) for char in value)
        return f'"{"".join(shown)}"'
    if isinstance(value, list):
        return f"[{','.join(map(slow_canonical, value))}]"
    pairs = sorted(value.items(), key=lambda pair: [ord(char) for char in pair[0]])
    return f"{{{','.join(f'{slow_canonical(key)}:{slow_canonical(item)}' for key, item in pairs)}}}"


STRINGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(
    lambda text: unicodedata.normalize("NFC", text)
)
SCALARS = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | STRINGS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4), max_leaves=12
)


@given(VALUES)
@example({"\ue000": 1, "\U00010000": 2, "": 3})  # by code point, not by UTF-16 unit as in RFC 8785
@example({"a": '\x00\x1f\x7f\u2028/é"\\'})
def test_canonical_json_equals_an_independent_canonicaliser(value: Any) -> None:
    data = canonical_json(value)
    assert data == slow_canonical(value).encode("utf-8")
    assert json.loads(data) == value


@given(st.dictionaries(STRINGS, SCALARS, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical_json(dict(items)) == canonical_json(value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        b"bytes",
        {1, 2},
        {1: "key"},
        {None: "key"},
        {True: "key"},
        "e\u0301",
        {"e\u0301": 1},
        "\ud800",
        {"\udfff": 1},
        datetime(2026, 1, 1, tzinfo=UTC),
    ],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [value], lambda value: {"key": {"key": value}}])
def test_what_has_no_canonical_form_is_refused(value: Any, wrap: Any) -> None:
    with pytest.raises(InvalidCanonicalForm):
        canonical_json(wrap(value))


def test_nesting_stops_at_16_levels() -> None:
    value: Any = 1
    for _ in range(16):
        value = [value]
    assert canonical_json(value) == b"[" * 16 + b"1" + b"]" * 16
    with pytest.raises(InvalidCanonicalForm):
        canonical_json([value])


def test_the_largest_integers_are_in() -> None:
    assert canonical_json([MAX_INTEGER, -MAX_INTEGER]) == b"[9007199254740991,-9007199254740991]"


# --- times --------------------------------------------------------------------------------------------------

MOMENTS = st.integers(-62_135_596_800, 253_402_300_799).map(
    lambda seconds: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@given(MOMENTS)
@example(datetime(1, 1, 1, tzinfo=UTC))
@example(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
def test_times_are_read_back(moment: datetime) -> None:
    text = format_time(moment)
    assert len(text) == 20
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo is UTC


@given(
    st.text("0123456789-:TZ+. ", min_size=18, max_size=22)
    | st.from_regex(r"20\d\d-[01]\d-[0-3]\dT[012]\d:[0-6]\d:[0-6]\dZ")
)
@example("2026-01-31T24:00:00Z")
@example("2026-01-31T23:59:60Z")
@example("2026-02-29T00:00:00Z")
@example("2026-01-31T23:59:59Z\n")
def test_only_the_one_text_of_a_moment_is_accepted(text: str) -> None:
    try:
        moment = parse_time(text)
    except InvalidTime:
        return
    assert format_time(moment) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T24:00:00Z",
        "2026-01-31T23:60:00Z",
        "2026-01-31T23:59:60Z",
        "2026-02-29T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-31T23:59:59z",
        "2026-01-31t23:59:59Z",
        "2026-01-31 23:59:59Z",
        "2026-01-31T23:59:59+00:00",
        "2026-01-31T23:59:59.5Z",
        "2026-01-31T23:59:59Z\n",
        "2026-01-31",
        "２０２６-01-31T23:59:59Z",
        "",
        None,
        1_780_000_000,
    ],
)
def test_other_times_are_refused(text: Any) -> None:
    with pytest.raises(InvalidTime):
        parse_time(text)


def test_zones_are_converted_and_fractions_dropped() -> None:
    shanghai = datetime(2026, 3, 1, 7, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=8)))
    assert format_time(shanghai) == "2026-02-28T23:59:59Z"


@pytest.mark.parametrize("function", [format_time, unix_seconds, day_floor, hour_floor])
def test_a_time_without_a_zone_is_refused(function: Any) -> None:
    with pytest.raises(InvalidTime):
        function(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


@given(MOMENTS.filter(lambda moment: 2 <= moment.year <= 9998), st.integers(0, 999_999))
def test_days_and_hours_enclose_the_moment(moment: datetime, microsecond: int) -> None:
    moment = moment.replace(microsecond=microsecond)
    assert from_day(day_floor(moment)) <= moment < from_day(day_floor(moment) + 1)
    assert from_day(day_ceil(moment) - 1) < moment <= from_day(day_ceil(moment))
    assert from_hour(hour_floor(moment)) <= moment < from_hour(hour_floor(moment) + 1)
    assert unix_seconds(moment) == unix_seconds(moment.replace(microsecond=0))


def test_midnight_belongs_to_the_day_it_begins() -> None:
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    assert day_floor(midnight) == day_ceil(midnight) == 20_780
    assert day_ceil(midnight + timedelta(microseconds=1)) == 20_781
    assert day_floor(midnight - timedelta(microseconds=1)) == 20_779
    assert hour_floor(midnight) == 20_780 * 24


@given(st.one_of(VALUES, st.floats(), st.binary(max_size=4), st.text(max_size=4)))
def test_nothing_but_our_own_errors_comes_out(value: Any) -> None:
    for function in (unb64url, parse_time, canonical_json):
        with suppress(LedgerError):
            function(value)
