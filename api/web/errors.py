"""Errors as pages: what happened and what to do, in the reader's language, with the request's id and no internals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from api.errors import INTERNAL, TABLE, Row
from api.web.pages import locale_of, redirect, render
from ledger import errors as e
from ledger.errors import LedgerError
from ledger.i18n import DEFAULT_LOCALE, texts


class Elsewhere(HTTPException):
    """Go to another page of ours first: to sign in, for example."""

    def __init__(self, path: str) -> None:
        super().__init__(303)
        self.path = path


class Said(NamedTuple):
    """A heading and one sentence or two, in English: they are translated when they are shown."""

    heading: str
    advice: str


def _(text: str) -> str:
    """Marks a text for the catalogues."""
    return text


BY_CODE: Mapping[str, Said] = {
    e.SessionExpired.code: Said(_("Your session has ended"), _("Nothing was saved. Sign in again and repeat it.")),
    e.CrossSite.code: Said(
        _("This form did not come from here"),
        _("It was sent from another site, or your browser hides where it comes from. Open the page again here."),
    ),
    e.RoleMissing.code: Said(_("Your role may not do this"), _("Ask an admin if it should.")),
    e.ConflictOfInterest.code: Said(
        _("Somebody else has to work on this case"),
        _("It is about a platform of your own group, or you have worked on it before."),
    ),
    e.NotFound.code: Said(_("There is nothing here"), _("The address is wrong, or what was here is gone.")),
    e.CaseTaken.code: Said(_("Another reviewer has this case in hand"), _("Take another one from the queue.")),
    e.ActionRefused.code: Said(
        _("This cannot be done now"), _("The case has moved on. Open it again to see where it stands.")
    ),
    e.TooManyAttempts.code: Said(_("Too many attempts"), _("Wait a little and try again.")),
    e.BodyTooLarge.code: Said(_("That is too large"), _("Send less text or a smaller file.")),
    e.AttachmentRefused.code: Said(
        _("This file is not accepted"), _("Check that it is of an accepted type, not empty and not too large.")
    ),
    e.LogFrozen.code: Said(
        _("Nothing can be recorded now"), _("The ledger answers questions but takes nothing in. Try again later.")
    ),
}
"""What is said of errors that people meet; of all others what their status means."""

BY_STATUS: Mapping[int, Said] = {
    401: Said(_("Please sign in"), _("This page is for people who are signed in.")),
    403: Said(_("This is not allowed"), _("You may not see or do this.")),
    404: BY_CODE[e.NotFound.code],
    405: Said(_("This page does not work that way"), _("Go back and use the form or link there.")),
    409: Said(_("This cannot be done now"), _("Something has changed in the meantime. Open the page again.")),
    413: BY_CODE[e.BodyTooLarge.code],
    429: BY_CODE[e.TooManyAttempts.code],
    503: Said(_("This does not work at the moment"), _("Nothing was saved. Try again in a minute.")),
}
INVALID = Said(_("That was not accepted"), _("Something in the form is missing or wrong. Go back and check it."))
FAILED = Said(_("Something went wrong here"), _("The fault is ours. If you report it, give the number below."))


def error_page(request: Request, error: LedgerError) -> Response:
    """The page for an error of the table, with its status."""
    row = TABLE[type(error)]
    said = BY_CODE.get(error.code) or BY_STATUS.get(row.status, INVALID)
    response = _page(request, row, said, detail=_detail(request, error) if error.code not in BY_CODE else None)
    if row.status in (429, 503):
        response.headers["Retry-After"] = str(error.details.get("retry_after_seconds", 1))
    if row.status == 405:
        response.headers["Allow"] = str(error.details["allow"])
    return response


def failure_page(scope: Scope) -> Response:
    """The page for a fault of ours."""
    return _page(Request(scope), INTERNAL, FAILED, detail=None)


async def go_elsewhere(_request: Request, error: Exception) -> Response:
    """Handler of `Elsewhere`."""
    assert isinstance(error, Elsewhere)
    return redirect(error.path)


def _detail(request: Request, error: LedgerError) -> str | None:
    """The error's own sentence where it can be read: it is in English unless a catalogue has it."""
    locale = locale_of(request)
    translated = texts(locale).gettext(str(error))
    return translated if locale == DEFAULT_LOCALE or translated != str(error) else None


def _page(request: Request, row: Row, said: Said, detail: str | None) -> Response:
    request_id = request.scope["state"]["request_id"]
    return render(
        request,
        "error.html",
        status=row.status,
        heading=said.heading,
        advice=said.advice,
        detail=detail,
        request_id=request_id,
        sign_in=row.status == 401,
        written=request.scope["state"].get("written", []) if row.status == 401 else [],
    )
