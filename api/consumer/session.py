"""The session behind the cookie of /me, and the language of its pages.

The code of a link arrives only in a form, never in an address: services that fetch addresses for a person (previews,
scanners, proxies) can neither use it up nor record it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.exceptions import HTTPException
from starlette.requests import Request

from api.deps import runtime
from api.web.cookies import read_cookie
from api.web.forms import Form
from api.web.security import check_same_origin
from ledger.errors import SessionExpired
from ledger.i18n import LOCALES, negotiate
from ledger.server.appeals.sessions import SubjectSessionRow, session_of

COOKIE, LANGUAGE_COOKIE, PATH = "me", "me_language", "/me"


class SessionEnded(HTTPException):
    """There is no open session. `text` is the text that the person had written, so that it is not lost."""

    def __init__(self, text: str = "") -> None:
        super().__init__(401)
        self.text = text


@dataclass(frozen=True, slots=True)
class Sent:
    """A form that was sent in a session."""

    session: SubjectSessionRow
    form: Mapping[str, str]

    def field(self, name: str) -> str:
        """Return the value of a field, empty if the form has none of this name."""
        return self.form.get(name, "")


def me_router() -> APIRouter:
    """Return a router for pages of /me: it refuses forms of other sites, and is not in the API's description."""
    return APIRouter(
        prefix=PATH, include_in_schema=False, dependencies=[Depends(check_same_origin), Depends(_choose_language)]
    )


def cookie_token(request: Request) -> str | None:
    """Return the token in the request's cookie."""
    return read_cookie(request, COOKIE, PATH)


def asked_language(request: Request) -> str | None:
    """Return the language in the address: the switch on every page is a plain link."""
    asked = request.query_params.get("lang")
    return asked if asked in LOCALES else None


async def _choose_language(request: Request) -> None:
    """Set the language: that of the address, else the one chosen before. A session sets its own if none was chosen."""
    state = request.scope["state"]
    kept = read_cookie(request, LANGUAGE_COOKIE, PATH)
    chosen = asked_language(request) or (kept if kept in LOCALES else None)
    state["language_chosen"] = chosen is not None
    state["locale"] = chosen or negotiate(request.headers.get("accept-language"))


def open_session(request: Request) -> SubjectSessionRow | None:
    """Return the session behind the cookie, if it is open. It queries the database: call it in a thread."""
    rt = runtime(request)
    try:
        session = session_of(rt.engine, cookie_token(request), rt.now())
    except SessionExpired:
        return None
    state = request.scope["state"]
    if not state["language_chosen"]:
        state["locale"] = session.locale
    return session


def _reading(request: Request) -> SubjectSessionRow:
    session = open_session(request)
    if session is None:
        raise SessionEnded
    return session


def _sending(request: Request, form: Form) -> Sent:
    session = open_session(request)
    if session is None:
        raise SessionEnded(form.get("text", ""))
    return Sent(session, form)


Reading = Annotated[SubjectSessionRow, Depends(_reading)]
"""The session, which must be open."""

Sending = Annotated[Sent, Depends(_sending)]
"""The form that was sent, in a session that must be open."""
