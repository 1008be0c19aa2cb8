"""Who is signed in at the console, and what their role may open.

A route names its roles with one of the dependencies below, or with `Depends(needs("admin"))`. Roles are checked at
every request from the account as it is then, never from what a session once said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request

from api.deps import runtime
from api.web.cookies import read_cookie
from api.web.errors import Elsewhere
from api.web.security import check_same_origin
from ledger.errors import RoleMissing, SessionExpired
from ledger.server.settings import Settings
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.sessions import SessionTimes, session_staff

COOKIE, COOKIE_PATH = "console", "/console"
LOGIN, PASSWORD, HOME = "/console/login", "/console/password", "/console/queue"
OWN_PATH = re.compile(r"/console(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*\Z")
"""Paths that a form or an address may name as the page to go to afterwards."""


def console_router() -> APIRouter:
    """A router for pages of the console: it refuses forms of other sites, and is not in the API's description."""
    return APIRouter(prefix="/console", include_in_schema=False, dependencies=[Depends(check_same_origin)])


def session_token(request: Request) -> str | None:
    """The token in the request's cookie."""
    return read_cookie(request, COOKIE, COOKIE_PATH)


def session_times(settings: Settings) -> SessionTimes:
    """How long sessions last."""
    return SessionTimes(timedelta(minutes=settings.staff_idle_minutes), timedelta(hours=settings.staff_session_hours))


def signed_in(request: Request, *roles: str, changing_password: bool = False) -> StaffMember:
    """Who sent `request`; they must have one of `roles` (none: any role). It asks the database: call it in a thread.

    Without a session a GET is sent to the login page (and comes back afterwards), anything else raises SessionExpired.
    Whoever must change their password is sent to that page, unless this is it (`changing_password`).
    Raises RoleMissing, DatabaseUnavailable, and `Elsewhere` for the two detours.
    """
    rt = runtime(request)
    try:
        staff = session_staff(rt.engine, session_token(request), session_times(rt.settings), rt.now())
    except SessionExpired:
        if request.method == "GET":
            path = request.url.path
            raise Elsewhere(f"{LOGIN}?next={path}" if OWN_PATH.match(path) else LOGIN) from None
        raise
    state = request.scope["state"]
    state["staff"], state["locale"] = staff, staff.language
    if staff.must_change_password and not changing_password:
        raise Elsewhere(PASSWORD)
    if roles and staff.role not in roles:
        raise RoleMissing("Your role may not do this.")
    return staff


def needs(*roles: str) -> Callable[[Request], StaffMember]:
    """A dependency that gives who is signed in, if they have one of `roles`."""

    def dependency(request: Request) -> StaffMember:
        return signed_in(request, *roles)

    return dependency


def _changing_password(request: Request) -> StaffMember:
    return signed_in(request, changing_password=True)


Signed = Annotated[StaffMember, Depends(needs())]
"""Anybody who is signed in. FastAPI runs the dependency in a thread, as it does plain functions."""

Admin = Annotated[StaffMember, Depends(needs("admin"))]
"""A signed-in admin."""

AuditReader = Annotated[StaffMember, Depends(needs("auditor", "supervisor", "admin"))]
"""Somebody who may read the audit log."""

Returning = Annotated[StaffMember, Depends(_changing_password)]
"""Anybody who is signed in, also before they changed their first password."""
