"""Texts that the core and the services raise as plain English and the pages translate, for the catalogues to find."""

from __future__ import annotations


def _(text: str) -> str:
    return text


RAISED = (
    _("The tiers' thresholds must rise."),
    _("A quota lies between 0 and 2,147,483,647 elements a day."),
    _("A range is 30, 90 or 365 days."),
    _("A reason has 3 to 150 characters."),
    _("A reason holds no control characters."),
    _("A weight floor lies between 1 and 20 twentieths."),
    _("Every severity needs its retention, and every retention a severity."),
    _("Retention and the days until erasure must not exceed the longest time that anything is kept."),
    _("Shown points must stay below the threshold of the next tier."),
    _("Somebody else is running a simulation. Try again in a few seconds."),
    _("Staff who belong to a control group act on no platform."),
    _("impersonated protects a person and has severity 0; everything else has more."),
    _("A login name is 2 to 64 of a-z, 0-9 and ._-, starting with a letter or digit."),
    _("No platform has this control group. Enrol the platform first."),
    _("The current password is wrong, or the account is locked."),
    _("The language must be en or zh-CN."),
    _("The new password must not be the old one."),
    _("The role must be reviewer, supervisor, auditor or admin."),
    _("There is an account of this name already."),
    _("There is no account of this name."),
    _("This is the last admin who can sign in. Make another one first."),
    _("This password is too easy to guess."),
)
