"""Authentication of a person in their own session, by the token for which the single-use code of a link was
exchanged."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from api.deps import runtime
from ledger.errors import SessionExpired, Unauthenticated
from ledger.server.appeals.sessions import SubjectSessionRow, session_of

MAX_TOKEN_CHARS = 128


def bearer(request: Request) -> str:
    """Return the token in the `Authorization` header. Cookies are ignored: no page can make a browser send this header.

    Raises Unauthenticated, SessionExpired.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send the session's token: `Authorization: Bearer <token>`.")
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise SessionExpired("This session has ended. Ask the platform for a new link.")
    return token


def _session(request: Request) -> SubjectSessionRow:
    rt = runtime(request)
    session = session_of(rt.engine, bearer(request), rt.now())
    request.scope["state"]["locale"] = session.locale
    return session


Subject = Annotated[SubjectSessionRow, Depends(_session)]
"""The person's open session. A dependency, so that it is checked before anything is read."""
