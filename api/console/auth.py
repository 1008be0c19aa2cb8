"""The signed-in member of staff, and the pages that their role may open.

A route names its roles with one of the dependencies below, or with `Depends(needs("admin"))`. Roles are read from the
account at every request, never from the session.
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
"""Paths to which a form or an address may redirect afterwards."""


def console_router() -> APIRouter:
    """Return a router for pages of the console: it refuses forms of other sites and is not in the API's description."""
    return APIRouter(prefix="/console", include_in_schema=False, dependencies=[Depends(check_same_origin)])


def session_token(request: Request) -> str | None:
    """Return the token in the request's cookie."""
    return read_cookie(request, COOKIE, COOKIE_PATH)


def session_times(settings: Settings) -> SessionTimes:
    """Return the times of sessions from the settings."""
    return SessionTimes(timedelta(minutes=settings.staff_idle_minutes), timedelta(hours=settings.staff_session_hours))


def signed_in(request: Request, *roles: str, changing_password: bool = False) -> StaffMember:
    """Return the member of staff who sent `request` and has one of `roles` (none: any role). It queries the database:
    call it in a thread.

    Without a session a GET is redirected to the login page (and back afterwards), and another method raises
    SessionExpired. An account that must change its password is redirected to that page, unless the request is for it
    (`changing_password`). Raises RoleMissing, DatabaseUnavailable, and `Elsewhere` for the two redirects.
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
    """Return a dependency that returns the signed-in member of staff, who must have one of `roles`."""

    def dependency(request: Request) -> StaffMember:
        return signed_in(request, *roles)

    return dependency


def _changing_password(request: Request) -> StaffMember:
    return signed_in(request, changing_password=True)


Signed = Annotated[StaffMember, Depends(needs())]
"""Any signed-in member of staff. FastAPI runs the dependency in a thread, as every plain function."""

Admin = Annotated[StaffMember, Depends(needs("admin"))]
"""A signed-in admin."""

AuditReader = Annotated[StaffMember, Depends(needs("auditor", "supervisor", "admin"))]
"""A signed-in member of staff who may read the audit log."""

Returning = Annotated[StaffMember, Depends(_changing_password)]
"""Any signed-in member of staff, also before the first password was changed."""
