"""Sentences of errors that pages show, marked for the catalogues. Of others, pages tell in general words."""

from __future__ import annotations

from api.errors import TABLE
from api.web.errors import BY_CODE, BY_STATUS, INVALID
from ledger.errors import LedgerError
from ledger.i18n import DEFAULT_LOCALE, Texts


def _(text: str) -> str:
    return text


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
        _("This case is in somebody else's hands."),
        _("Only a case that waits for a reviewer is passed over."),
        _("A supervisor gives a case to a reviewer or supervisor."),
        _("The clock is extended once, where the law has an extension, after new information from the person."),
        _("This report was taken back before. Nothing is reversed twice."),
        _("An amended report names a conduct of no higher severity, and of some."),
        _("An amended report names another conduct, and one that somebody did."),
        _("Unlink identifiers that the report has, and leave at least one."),
        _("A case that the person reopened is not decided worse for them than before."),
        _("The second signature is for somebody who did not work on this case."),
        _("You handled this case before it was reopened; somebody new decides."),
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
        _("Somebody else is running a simulation. Try again in a few seconds."),
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


def sentence(error: LedgerError, language: Texts) -> str:
    """What to tell a person about `error` in their language."""
    text = str(error)
    if language.locale == DEFAULT_LOCALE or text in SENTENCES:
        return language.gettext(text)
    row = TABLE.get(type(error))
    said = BY_CODE.get(error.code) or (BY_STATUS.get(row.status) if row else None) or INVALID
    return language.gettext(said.advice)
