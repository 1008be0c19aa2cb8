"""Messages of errors that pages show: a heading and advice by error code or HTTP status, and the error texts that have
a translation. All are in English here and are translated when a page is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from api.errors import TABLE
from ledger import errors as e
from ledger.errors import LedgerError
from ledger.i18n import DEFAULT_LOCALE, Texts


class PageMessage(NamedTuple):
    """The heading of an error page and one or two sentences of advice, in English."""

    heading: str
    advice: str


def _(text: str) -> str:
    """Mark a text for the catalogues."""
    return text


BY_CODE: Mapping[str, PageMessage] = {
    e.SessionExpired.code: PageMessage(
        _("Your session has ended"), _("Nothing was saved. Sign in again and repeat it.")
    ),
    e.CrossSite.code: PageMessage(
        _("This form did not come from here"),
        _("It was sent from another site, or your browser hides where it comes from. Open the page again here."),
    ),
    e.RoleMissing.code: PageMessage(_("Your role may not do this"), _("Ask an admin if it should.")),
    e.ConflictOfInterest.code: PageMessage(
        _("Somebody else has to work on this case"),
        _("It is about a platform of your own group, or you have worked on it before."),
    ),
    e.NotFound.code: PageMessage(_("There is nothing here"), _("The address is wrong, or what was here is gone.")),
    e.CaseTaken.code: PageMessage(_("Another reviewer has this case in hand"), _("Take another one from the queue.")),
    e.ActionRefused.code: PageMessage(
        _("This cannot be done now"), _("The case has moved on. Open it again to see where it stands.")
    ),
    e.TooManyAttempts.code: PageMessage(_("Too many attempts"), _("Wait a little and try again.")),
    e.BodyTooLarge.code: PageMessage(_("That is too large"), _("Send less text or a smaller file.")),
    e.AttachmentRefused.code: PageMessage(
        _("This file is not accepted"), _("Check that it is of an accepted type, not empty and not too large.")
    ),
    e.LogFrozen.code: PageMessage(
        _("Nothing can be recorded now"), _("The ledger answers questions but takes nothing in. Try again later.")
    ),
}
"""By error code: the messages of errors that a person can cause. Every other error gets the message of its status."""

BY_STATUS: Mapping[int, PageMessage] = {
    401: PageMessage(_("Please sign in"), _("This page is for people who are signed in.")),
    403: PageMessage(_("This is not allowed"), _("You may not see or do this.")),
    404: BY_CODE[e.NotFound.code],
    405: PageMessage(_("This page does not work that way"), _("Go back and use the form or link there.")),
    409: PageMessage(_("This cannot be done now"), _("Something has changed in the meantime. Open the page again.")),
    413: BY_CODE[e.BodyTooLarge.code],
    429: BY_CODE[e.TooManyAttempts.code],
    503: PageMessage(_("This does not work at the moment"), _("Nothing was saved. Try again in a minute.")),
}
INVALID = PageMessage(_("That was not accepted"), _("Something in the form is missing or wrong. Go back and check it."))
FAILED = PageMessage(_("Something went wrong here"), _("The fault is ours. If you report it, give the number below."))

SENTENCES = frozenset(
    {
        _("A text has 1 to 2000 characters."),
        _("This text shows nothing, and a text that shows nothing ends no clock. Write something."),
        _("Tick the box that says you have read the case and the letter."),
        _("Choose an outcome."),
        _("Choose what the record should say instead."),
        _("Choose which details to unlink."),
        _("Choose somebody to give the case to."),
        _("The case has moved on since you opened it. Read what is new, then decide."),
        _("The form is incomplete. Open the page again."),
        _("This case is assigned to another member of staff."),
        _("Only a case that waits for a reviewer is passed over."),
        _("A supervisor gives a case to a reviewer or supervisor."),
        _("The clock is extended once, where the law has an extension, after new information from the person."),
        _("This report was taken back before. Nothing is reversed twice."),
        _("An amended report names a conduct of no higher severity, and of some."),
        _("An amended report names another conduct, and one that accuses the person."),
        _("Unlink identifiers that the report has, and leave at least one."),
        _("A case that the person reopened is not decided worse for them than before."),
        _("A member of staff who did not work on this case gives the second signature."),
        _("You handled this case before it was reopened; another member of staff decides now."),
        _("There is a case about this report already. A decided case can be reopened once."),
        _("These grounds do not exist."),
        _("This case can no longer be reopened."),
        _("A statement is worded anew at most 5 times."),
        _("A party adds to a case at most 50 times."),
        _("The tiers' thresholds must rise."),
        _("A quota lies between 0 and 2,147,483,647 elements a day."),
        _("A range is 30, 90 or 365 days."),
        _("A reason has 3 to 150 characters."),
        _("Every severity needs its retention, and every retention a severity."),
        _("Retention and the days until erasure must not exceed the longest time that anything is kept."),
        _("Shown points must stay below the threshold of the next tier."),
        _("Another simulation is running. Try again in a few seconds."),
        _("Another file is being inspected. Try again in a few seconds."),
        _("Staff who belong to a control group act on no platform."),
        _("impersonated protects a person and has severity 0; everything else has more."),
        _("A conduct that protects a person, such as impersonated, must be named: decisions rest on it."),
        _("The policy in effect does not name this conduct."),
        _("A login name is 2 to 64 of a-z, 0-9 and ._-, starting with a letter or digit."),
        _("No platform has this control group. Enrol the platform first."),
        _("The current password is wrong, or the account is locked."),
        _("The new password must not be the old one."),
        _("The role must be reviewer, supervisor, auditor or admin."),
        _("There is an account of this name already."),
        _("There is no account of this name."),
        _("This is the last admin who can sign in. Make another one first."),
        _("This password is too easy to guess."),
        _("You cannot reset your own account: ask another admin, or use the command line."),
        _("This is not the code that the app shows now. Check the time of your phone."),
        _("There is nothing to confirm about this account."),
        _("A second admin confirms, whose own account does not rest on the first one alone."),
        _("The account was changed since you opened the page. Look at it again."),
        _("This link does not work (any more). Ask an admin for a new one."),
        _("The same admin alone enrolled both of you, so a second admin must confirm one of the accounts first."),
    }
)
"""Texts of errors that a page shows in full. For any other error, a page in another language shows the advice only."""


def message_of(error: LedgerError) -> PageMessage:
    """Return the message for the code of `error`, else for its HTTP status, else `INVALID`."""
    row = TABLE.get(type(error))
    return BY_CODE.get(error.code) or (BY_STATUS.get(row.status) if row else None) or INVALID


def sentence(error: LedgerError, language: Texts) -> str:
    """Return the text of `error` in `language`, or the advice of its message where the text has no translation."""
    text = str(error)
    if language.locale == DEFAULT_LOCALE or text in SENTENCES:
        return language.gettext(text)
    return language.gettext(message_of(error).advice)
