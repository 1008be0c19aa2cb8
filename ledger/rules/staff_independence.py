"""The admin who controls an account of the staff: the rule by which two signatures are those of two people.

An admin could enrol two reviewers and sign with both. So an account that one admin alone enrolled counts as that
admin's own until a second admin, whom the first one does not control, has confirmed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResponsibleAdmins:
    """The admins who are responsible for the present credentials and role of an account, by their ids.

    `enrolled_by` is None for the operator's command line, which can write into the database anyway; `confirmed_by` is
    the second admin, None while there is none.
    """

    enrolled_by: int | None
    confirmed_by: int | None


def controller_of(accounts: Mapping[int, ResponsibleAdmins], staff_id: int) -> int:
    """Return the id of the account that controls this one: that of the admin who alone enrolled it, or of the account
    that controls that admin. An account that two admins or the command line enrolled, or that is not in `accounts`,
    controls itself."""
    met: set[int] = set()
    current = staff_id
    while current not in met:
        met.add(current)
        responsible = accounts.get(current)
        if responsible is None or responsible.enrolled_by is None or responsible.confirmed_by is not None:
            return current
        current = responsible.enrolled_by
    # Accounts that rest on each other, as after an admin reset the one who had enrolled them: one account controls all.
    return min(met)


def may_confirm(accounts: Mapping[int, ResponsibleAdmins], enrolled_by: int, staff_id: int, by: int) -> bool:
    """True if admin `by` may confirm the account `staff_id` that admin `enrolled_by` enrolled.

    It must not be the account itself, and must not be controlled by the same account as the admin who enrolled it.
    """
    return by not in (staff_id, enrolled_by) and controller_of(accounts, by) != controller_of(accounts, enrolled_by)
