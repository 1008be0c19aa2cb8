"""On whose word an account rests, over random histories of who enrolled and confirmed whom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.rules.staff_independence import Vouched, hand_of, may_confirm

ids = st.integers(1, 6)
accounts = st.dictionaries(ids, st.builds(Vouched, st.none() | ids, st.none() | ids), max_size=6)


def test_an_account_of_the_command_line_or_of_two_admins_is_its_own_hand() -> None:
    known = {1: Vouched(None, None), 2: Vouched(1, None), 3: Vouched(1, 4), 4: Vouched(None, None), 5: Vouched(2, None)}
    assert {key: hand_of(known, key) for key in known} == {1: 1, 2: 1, 3: 3, 4: 4, 5: 1}
    assert hand_of(known, 99) == 99
    assert may_confirm(known, 1, 5, 4)
    assert not may_confirm(known, 1, 5, 2), "the first admin's own hand is no second admin"
    assert not may_confirm(known, 1, 4, 4), "no account confirms itself"
    assert not may_confirm(known, 1, 5, 1)


def test_accounts_that_rest_on_each_other_are_one_hand() -> None:
    known = {1: Vouched(2, None), 2: Vouched(1, None), 3: Vouched(2, None)}
    assert {hand_of(known, key) for key in known} == {1}
    assert hand_of({7: Vouched(7, None)}, 7) == 7


@given(accounts, ids)
def test_a_hand_is_found_and_is_its_own(known: dict[int, Vouched], account: int) -> None:
    hand = hand_of(known, account)
    assert hand_of(known, hand) == hand
    if known.get(account, Vouched(None, None)).confirmed_by is not None:
        assert hand == account


@given(accounts, ids, st.lists(ids, min_size=2, max_size=5, unique=True))
def test_one_admin_alone_never_has_two_hands(known: dict[int, Vouched], admin: int, enrolled: list[int]) -> None:
    """Whatever one admin enrols alone, and whatever those accounts enrol alone, is controlled by that admin."""
    known = {key: vouched for key, vouched in known.items() if key not in enrolled} | {admin: Vouched(None, None)}
    first, *others = (item for item in enrolled if item != admin)
    known[first] = Vouched(admin, None)
    for before, item in zip([first, *others], others, strict=False):
        known[item] = Vouched(before, None)
    assert {hand_of(known, item) for item in (first, *others)} == {admin}
    assert not any(may_confirm(known, admin, item, other) for item in enrolled for other in (first, *others))
