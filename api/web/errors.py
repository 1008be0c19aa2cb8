"""Error pages: what happened and what to do, in the reader's language, with the request's id and no internals."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from api.errors import INTERNAL, TABLE, ErrorRow
from api.web.messages import BY_CODE, FAILED, PageMessage, message_of
from api.web.pages import locale_of, redirect, render
from ledger.errors import LedgerError
from ledger.i18n import DEFAULT_LOCALE, texts


class Elsewhere(HTTPException):
    """Redirects the browser to the page at `path` (303), for example to sign in."""

    def __init__(self, path: str) -> None:
        super().__init__(303)
        self.path = path


def error_page(request: Request, error: LedgerError) -> Response:
    """Return the page for an error of `api.errors.TABLE`, with its status and headers."""
    row = TABLE[type(error)]
    response = _page(
        request, row, message_of(error), detail=_detail(request, error) if error.code not in BY_CODE else None
    )
    if row.status in (429, 503):
        response.headers["Retry-After"] = str(error.details.get("retry_after_seconds", 1))
    if row.status == 405:
        response.headers["Allow"] = str(error.details["allow"])
    return response


def failure_page(scope: Scope) -> Response:
    """Return the page for an internal error (500)."""
    return _page(Request(scope), INTERNAL, FAILED, detail=None)


async def go_elsewhere(_request: Request, error: Exception) -> Response:
    """Exception handler of `Elsewhere`: return the redirect."""
    assert isinstance(error, Elsewhere)
    return redirect(error.path)


def _detail(request: Request, error: LedgerError) -> str | None:
    """Return the text of `error` in the reader's language, None if no catalogue translates it."""
    locale = locale_of(request)
    translated = texts(locale).gettext(str(error))
    return translated if locale == DEFAULT_LOCALE or translated != str(error) else None


def _page(request: Request, row: ErrorRow, message: PageMessage, detail: str | None) -> Response:
    request_id = request.scope["state"]["request_id"]
    return render(
        request,
        "error.html",
        status=row.status,
        heading=message.heading,
        advice=message.advice,
        detail=detail,
        request_id=request_id,
        sign_in=row.status == 401,
        written=request.scope["state"].get("written", []) if row.status == 401 else [],
    )
