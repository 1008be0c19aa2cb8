"""The forms of the case page, parsed and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from api.web.forms import read_form
from ledger.errors import DecisionInvalid, InvalidRequest
from ledger.i18n import LOCALES
from ledger.rules.appeals import Outcome
from ledger.rules.conduct import Conduct
from ledger.server.appeals.staff_actions import DraftDecision

_NUMBER = re.compile(r"\d{1,18}\Z", re.ASCII)
MAX_SMALL = 2**31 - 1
"""The largest number of a filter: databases compare it with 32-bit integers."""
_SLOT = re.compile(r"slot_(\d)\Z", re.ASCII)


TEXTS = ("reasons", "note", "ask_reporter", "ask_subject", "extend", "decline", "hand_back")
"""Fields for long texts."""


async def _read_written(request: Request) -> Mapping[str, str]:
    form = await read_form(request)
    request.scope["state"]["written"] = [form[name] for name in TEXTS if form.get(name, "").strip()]
    return form


Written = Annotated[Mapping[str, str], Depends(_read_written)]
"""The fields of a form in a case. Long texts are kept for the page shown when the session has ended. A route names it
before the signed-in staff, so that it is read first."""


def seen_of(form: Mapping[str, str]) -> int:
    """Return the newest event that the page showed. Every form has it, so that staff do not act on events that they did
    not see. Raises InvalidRequest."""
    return number(form.get("seen", ""))


def number(text: str, most: int = 10**18 - 1) -> int:
    """Return the number of a hidden field or of an address, at most `most`. Raises InvalidRequest."""
    if not _NUMBER.match(text) or int(text) > most:
        raise InvalidRequest("The form is incomplete. Open the page again.")
    return int(text)


def draft_of(form: Mapping[str, str]) -> DraftDecision:
    """Return the decision that was entered. A conduct or identifiers that do not belong to the outcome are ignored, as
    the form always has them all. Raises DecisionInvalid."""
    try:
        outcome = Outcome(form.get("outcome", ""))
    except ValueError as error:
        raise DecisionInvalid("Choose an outcome.") from error
    conduct, slots = None, []
    if outcome.spec.names_conduct:
        try:
            conduct = Conduct(form.get("conduct", ""))
        except ValueError as error:
            raise DecisionInvalid("Choose what the record should say instead.") from error
    if outcome.spec.names_slots:
        slots = sorted(int(match[1]) for match in map(_SLOT.match, form) if match)
        if not slots:
            raise DecisionInvalid("Choose which details to unlink.")
    return DraftDecision(outcome, form.get("reasons", ""), conduct, tuple(slots))


def locale_of(text: str, default: str) -> str:
    """Return the requested language, or `default`."""
    return text if text in LOCALES else default
