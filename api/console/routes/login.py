"""Signing in and out, one's own password and language."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import (
    COOKIE,
    COOKIE_PATH,
    HOME,
    LOGIN,
    OWN_PATH,
    Returning,
    console_router,
    session_times,
    session_token,
)
from api.deps import runtime
from api.web.cookies import drop_cookie, set_cookie
from api.web.errors import BY_CODE
from api.web.forms import Form
from api.web.pages import locale_of, redirect, render
from ledger.errors import LoginRefused, StaffInvalid, TooManyAttempts
from ledger.i18n import LOCALES
from ledger.service import staff as service
from ledger.service import staff_sessions as sessions

MAX_WAITING = 8
"""Logins that a process works on at a time. They have threads of their own: however many come, the API keeps its."""

T = TypeVar("T")

router = console_router()
_LIMITER: RunVar[CapacityLimiter] = RunVar("console logins")


@router.get("")
def get_home(staff: Returning) -> Response:
    """The console's first page."""
    return redirect(HOME)


@router.get("/login")
def get_login(request: Request) -> Response:
    """The form. `next` is where to go afterwards, `lang` its language."""
    asked = request.query_params.get("lang")
    return _login_page(request, asked if asked in LOCALES else None, request.query_params.get("next", ""), "", None)


@router.post("/login")
async def post_login(request: Request, form: Form) -> Response:
    """Open a session."""
    rt = runtime(request)
    name, after = form.get("name", ""), form.get("next", "")

    def work() -> str:
        return sessions.login(
            rt.engine,
            rt.keys.sealing_key,
            name=name.strip().lower(),
            password=form.get("password", ""),
            code=form.get("code", ""),
            times=session_times(rt.settings),
            now=rt.now(),
            random_bytes=secrets.token_bytes,
            replaces=session_token(request),
        )

    try:
        token = await in_own_thread(work)
    except (LoginRefused, TooManyAttempts) as error:
        request.scope["state"]["code"] = error.code
        asked = form.get("lang")
        return _login_page(request, asked if asked in LOCALES else None, after, name, error)
    response = redirect(after if OWN_PATH.match(after) else HOME)
    set_cookie(request, response, COOKIE, COOKIE_PATH, token)
    return response


@router.post("/logout")
def post_logout(request: Request) -> Response:
    """End the session, if there still is one."""
    rt = runtime(request)
    sessions.logout(rt.engine, session_token(request), rt.now())
    response = redirect(LOGIN)
    drop_cookie(request, response, COOKIE, COOKIE_PATH)
    return response


@router.get("/password")
def get_password(request: Request, staff: Returning) -> Response:
    """The form to change one's password."""
    return render(request, "password.html", staff.language, must=staff.must_change_password, problem=None)


@router.post("/password")
async def post_password(request: Request, staff: Returning, form: Form) -> Response:
    """Change it."""
    rt = runtime(request)
    problem: str | None = None
    new = form.get("new", "")

    def work() -> None:
        sessions.change_password(
            rt.engine,
            staff_id=staff.id,
            token=session_token(request) or "",
            old=form.get("old", ""),
            new=new,
            now=rt.now(),
        )

    if new != form.get("again", ""):
        problem = "The two new passwords differ."
    else:
        try:
            await in_own_thread(work)
        except (StaffInvalid, LoginRefused) as error:
            request.scope["state"]["code"] = error.code
            problem = str(error)
    if problem is None:
        return redirect(HOME)
    return render(
        request, "password.html", staff.language, status=422, must=staff.must_change_password, problem=problem
    )


@router.post("/language")
def post_language(request: Request, staff: Returning, form: Form) -> Response:
    """Choose the language of one's pages."""
    service.set_language(runtime(request).engine, staff.id, form.get("language", ""))
    back = form.get("back", "")
    return redirect(back if OWN_PATH.match(back) else HOME)


async def in_own_thread(work: Callable[[], T]) -> T:
    """`work` in a thread that the rest of the API does not need. Raises TooManyAttempts when all of them are busy."""
    limiter = _limiter()
    if limiter.borrowed_tokens >= MAX_WAITING:
        raise TooManyAttempts("Too many people are signing in. Try again.", retry_after_seconds=2)
    return await to_thread.run_sync(work, limiter=limiter)


def _limiter() -> CapacityLimiter:
    """The limiter of this event loop."""
    try:
        return _LIMITER.get()
    except LookupError:
        limiter = CapacityLimiter(MAX_WAITING)
        _LIMITER.set(limiter)
        return limiter


def _login_page(
    request: Request, locale: str | None, after: str, name: str, error: LoginRefused | TooManyAttempts | None
) -> Response:
    problem = status = None
    if isinstance(error, LoginRefused):
        problem, status = str(error), 401
    elif error is not None:
        said = BY_CODE[error.code]
        problem, status = said.advice, 429
    response = render(
        request,
        "login.html",
        locale or locale_of(request),
        status=status or 200,
        problem=problem,
        name=name[:64],
        after=after if OWN_PATH.match(after) else "",
    )
    if status == 429:
        response.headers["Retry-After"] = "2"
    return response
