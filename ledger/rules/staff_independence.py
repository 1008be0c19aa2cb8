"""On whose word an account of the staff rests: what makes two signatures the signatures of two people.

An admin could make two reviewers and sign with both. So an account that one admin alone enrolled is that admin's hand
until a second admin, who is not a hand of the first one, has confirmed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vouched:
    """Who vouches for the present credentials and role of an account, as ids of admins.

    `enrolled_by` is None for the operator's command line, which can write into the database anyway; `confirmed_by` is
    the second admin, None while there is none.
    """

    enrolled_by: int | None
    confirmed_by: int | None


def hand_of(accounts: Mapping[int, Vouched], staff_id: int) -> int:
    """Return the id of the account on whose word alone this account rests, followed to its end; its own id where it
    rests on the word of two admins or of the command line. An id that is not in `accounts` is its own."""
    met: set[int] = set()
    current = staff_id
    while current not in met:
        met.add(current)
        vouched = accounts.get(current)
        if vouched is None or vouched.enrolled_by is None or vouched.confirmed_by is not None:
            return current
        current = vouched.enrolled_by
    # Accounts that rest on each other, as after an admin reset the one who had enrolled them: all are one hand.
    return min(met)


def may_confirm(accounts: Mapping[int, Vouched], enrolled_by: int, staff_id: int, by: int) -> bool:
    """True if admin `by` may confirm the account `staff_id` that admin `enrolled_by` enrolled.

    It must not be the account itself, and must rest on another word than the admin who enrolled it.
    """
    return by not in (staff_id, enrolled_by) and hand_of(accounts, by) != hand_of(accounts, enrolled_by)
