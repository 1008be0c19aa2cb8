"""On whose word an account rests, over random histories of who enrolled and confirmed whom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.rules.staff_independence import ResponsibleAdmins, controller_of, may_confirm

ids = st.integers(1, 6)
accounts = st.dictionaries(ids, st.builds(ResponsibleAdmins, st.none() | ids, st.none() | ids), max_size=6)


def test_an_account_of_the_command_line_or_of_two_admins_controls_itself() -> None:
    known = {
        1: ResponsibleAdmins(None, None),
        2: ResponsibleAdmins(1, None),
        3: ResponsibleAdmins(1, 4),
        4: ResponsibleAdmins(None, None),
        5: ResponsibleAdmins(2, None),
    }
    assert {key: controller_of(known, key) for key in known} == {1: 1, 2: 1, 3: 3, 4: 4, 5: 1}
    assert controller_of(known, 99) == 99
    assert may_confirm(known, 1, 5, 4)
    assert not may_confirm(known, 1, 5, 2), "the first admin's own account is no second admin"
    assert not may_confirm(known, 1, 4, 4), "no account confirms itself"
    assert not may_confirm(known, 1, 5, 1)


def test_accounts_that_rest_on_each_other_have_one_controller() -> None:
    known = {1: ResponsibleAdmins(2, None), 2: ResponsibleAdmins(1, None), 3: ResponsibleAdmins(2, None)}
    assert {controller_of(known, key) for key in known} == {1}
    assert controller_of({7: ResponsibleAdmins(7, None)}, 7) == 7


@given(accounts, ids)
def test_a_controller_controls_itself(known: dict[int, ResponsibleAdmins], account: int) -> None:
    controller = controller_of(known, account)
    assert controller_of(known, controller) == controller
    if known.get(account, ResponsibleAdmins(None, None)).confirmed_by is not None:
        assert controller == account


@given(accounts, ids, st.lists(ids, min_size=2, max_size=5, unique=True))
def test_accounts_of_one_admin_alone_have_one_controller(
    known: dict[int, ResponsibleAdmins], admin: int, enrolled: list[int]
) -> None:
    """Whatever one admin enrols alone, and whatever those accounts enrol alone, is controlled by that admin."""
    known = {key: responsible for key, responsible in known.items() if key not in enrolled} | {
        admin: ResponsibleAdmins(None, None)
    }
    first, *others = (item for item in enrolled if item != admin)
    known[first] = ResponsibleAdmins(admin, None)
    for before, item in zip([first, *others], others, strict=False):
        known[item] = ResponsibleAdmins(before, None)
    assert {controller_of(known, item) for item in (first, *others)} == {admin}
    assert not any(may_confirm(known, admin, item, other) for item in enrolled for other in (first, *others))
