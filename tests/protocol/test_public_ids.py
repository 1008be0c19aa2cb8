"""Public ids."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hashids import Hashids  # type: ignore[import-untyped]
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.errors import InvalidRequest
from ledger.protocol.public_ids import MAX_ID_CHARS, MAX_ID_NUMBER, Prefix, decode_id, encode_id

prefixes: st.SearchStrategy[Prefix] = st.sampled_from(["rp", "lk", "ap"])


@given(prefixes, st.integers(0, MAX_ID_NUMBER))
@example("rp", 0)
@example("rp", MAX_ID_NUMBER)
def test_an_id_leads_back_to_its_number(prefix: Prefix, number: int) -> None:
    text = encode_id(prefix, number, "ledger.example")
    assert decode_id(prefix, text, "ledger.example") == number
    assert text.startswith(f"{prefix}_")
    assert len(prefix) + 1 + 8 <= len(text) <= MAX_ID_CHARS


@given(prefixes, st.integers(0, 60).flatmap(lambda bits: st.integers(0, 2**bits + 99)), st.sampled_from(["s", "a.b"]))
def test_ids_are_what_the_library_makes(prefix: Prefix, number: int, service: str) -> None:
    library = Hashids(salt=f"refund-ledger:{service}:{prefix}", min_length=8)
    assert encode_id(prefix, number, service) == f"{prefix}_{library.encode(number)}"


def test_ids_are_stable() -> None:
    """Ids are printed in letters and stored by platforms: they must never change."""
    assert encode_id("rp", 1, "ledger.example") == "rp_61KEvM7w"
    assert encode_id("lk", 1, "ledger.example") == "lk_07pEJQEm"


def test_ids_of_another_sort_or_service_are_refused() -> None:
    text = encode_id("rp", 7, "ledger.example")
    for prefix, other in (("lk", text), ("lk", "lk_" + text[3:]), ("ap", "ap_" + text[3:])):
        with pytest.raises(InvalidRequest):
            decode_id(prefix, other, "ledger.example")  # type: ignore[arg-type]
    for other in ("lk_" + text[3:], "rp-" + text[3:], "RP_" + text[3:]):  # the right letters under a wrong name
        with pytest.raises(InvalidRequest):
            decode_id("rp", other, "ledger.example")
    with pytest.raises(InvalidRequest):
        decode_id("rp", text, "test.ledger.example")


@pytest.mark.parametrize("text", ["", "rp_", "rp", "rp_!!!!!!!!", "rp_" + "A" * 200, " rp_abc", None, 7])
def test_malformed_ids_are_refused(text: object) -> None:
    with pytest.raises(InvalidRequest):
        decode_id("rp", text, "ledger.example")  # type: ignore[arg-type]


@given(st.integers(0, 10_000), st.integers(0, 40), st.sampled_from("abcXYZ019"))
def test_a_changed_id_is_never_the_same_number(number: int, place: int, letter: str) -> None:
    text = encode_id("rp", number, "s")
    changed = text[: 3 + place % (len(text) - 3)] + letter + text[4 + place % (len(text) - 3) :]
    if changed != text:
        with suppress(InvalidRequest):
            assert decode_id("rp", changed, "s") != number


@pytest.mark.parametrize("number", [-1, MAX_ID_NUMBER + 1])
def test_numbers_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(InvalidRequest):
        encode_id("rp", number, "s")


@pytest.mark.parametrize("numbers", [(1, 2), (MAX_ID_NUMBER + 1,)])
def test_ids_that_we_never_made_are_refused(numbers: tuple[int, ...]) -> None:
    library = Hashids(salt="refund-ledger:s:rp", min_length=8)
    assert decode_id("rp", f"rp_{library.encode(5)}", "s") == 5
    with pytest.raises(InvalidRequest):
        decode_id("rp", f"rp_{library.encode(*numbers)}", "s")
