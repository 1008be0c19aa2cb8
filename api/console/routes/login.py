"""Login, logout, and the account's own password and language."""

from __future__ import annotations

import secrets
from time import monotonic

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from api.console import login_queue
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
from api.web.cookies import drop_cookie, read_cookie, set_cookie
from api.web.forms import Form
from api.web.messages import BY_CODE
from api.web.pages import locale_of, redirect, render
from ledger.errors import LoginRefused, StaffInvalid, TooManyAttempts
from ledger.i18n import LOCALES
from ledger.server.staff import accounts as service
from ledger.server.staff import devices, sessions

DEVICE_COOKIE = "console_device_"
"""Prefix of the names of device cookies (`ledger.server.staff.devices`)."""

router = console_router()


@router.get("")
def get_home(staff: Returning) -> Response:
    """Show the console's first page."""
    return redirect(HOME)


@router.get("/login")
def get_login(request: Request) -> Response:
    """Show the form. `next` is the page after the login, `lang` the language of the form."""
    asked = request.query_params.get("lang")
    return _login_page(request, asked if asked in LOCALES else None, request.query_params.get("next", ""), "", None)


@router.post("/login")
async def post_login(request: Request, form: Form) -> Response:
    """Log in: open a session."""
    started = monotonic()
    name, after = form.get("name", "").strip().lower(), form.get("next", "")
    try:
        token = await _sign_in(request, name, form.get("password", ""), form.get("code", ""))
    except (LoginRefused, TooManyAttempts) as error:
        await login_queue.until_answer(started)
        request.scope["state"]["code"] = error.code
        asked = form.get("lang")
        return _login_page(request, asked if asked in LOCALES else None, after, form.get("name", ""), error)
    response = redirect(after if OWN_PATH.match(after) else HOME)
    set_cookie(request, response, COOKIE, COOKIE_PATH, token)
    await remember_device(request, response, name)
    return response


async def _sign_in(request: Request, name: str, password: str, code: str) -> str:
    """Return the token of a new session. Raises LoginRefused, TooManyAttempts, DatabaseUnavailable."""
    rt, queues = runtime(request), login_queue.queues()
    key = rt.keys.sealing_key
    cookie = read_cookie(request, DEVICE_COOKIE + devices.cookie_suffix(key, name), COOKIE_PATH)
    attempt = await queues.look(lambda: devices.attempt(rt.engine, key, name, cookie, rt.now()), cookie is not None)
    if not attempt.may_succeed:
        await queues.pretend()
        raise LoginRefused("Name, password or code is wrong, or the account is locked.")

    def work() -> str:
        return sessions.login(
            rt.engine,
            key,
            name=name,
            password=password,
            code=code,
            times=session_times(rt.settings),
            now=rt.now(),
            random_bytes=secrets.token_bytes,
            replaces=session_token(request),
            device=attempt.device,
        )

    return await queues.judge(queues.strangers if attempt.device is None else queues.known, work)


async def remember_device(request: Request, response: Response, name: str) -> None:
    """Set a device cookie in a browser in which `name` has logged in."""
    rt = runtime(request)
    key = rt.keys.sealing_key
    device = await to_thread.run_sync(devices.new_cookie, rt.engine, key, name, rt.now(), secrets.token_bytes)
    if device is not None:
        cookie = DEVICE_COOKIE + devices.cookie_suffix(key, name)
        set_cookie(request, response, cookie, COOKIE_PATH, device, seconds=int(devices.LIFETIME.total_seconds()))


@router.post("/logout")
def post_logout(request: Request) -> Response:
    """End the session, if it is still open."""
    rt = runtime(request)
    sessions.logout(rt.engine, session_token(request), rt.now())
    response = redirect(LOGIN)
    drop_cookie(request, response, COOKIE, COOKIE_PATH)
    return response


@router.get("/password")
def get_password(request: Request, staff: Returning) -> Response:
    """Show the form that changes the password."""
    return render(request, "password.html", staff.language, must=staff.must_change_password, problem=None)


@router.post("/password")
async def post_password(request: Request, staff: Returning, form: Form) -> Response:
    """Change the password."""
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
            await login_queue.queues().known.run(work)
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
    """Set the language of the account's pages."""
    service.set_language(runtime(request).engine, staff.id, form.get("language", ""))
    back = form.get("back", "")
    return redirect(back if OWN_PATH.match(back) else HOME)


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
