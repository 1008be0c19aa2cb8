"""The page of an enrolment link: its owner chooses a password and adds the account to an authenticator app."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response

from api.console import login_queue
from api.console.auth import console_router
from api.console.routes.login import remember_device
from api.console.routes.staff import qr_picture
from api.deps import runtime
from api.web.forms import Form
from api.web.pages import locale_of, render
from ledger.errors import LedgerError, LinkInvalid, StaffInvalid, TooManyAttempts
from ledger.server.staff import enrolment
from ledger.server.staff.enrolment import OpenedLink

router = console_router()


@router.get("/enrol")
def get_enrol(request: Request) -> Response:
    """Show the form for the link's code, which is in the fragment of the address: browsers do not send it."""
    return _code_page(request, None)


@router.post("/enrol/open")
def post_open(request: Request, form: Form) -> Response:
    """Redeem the link, and show the form that completes the enrolment."""
    rt = runtime(request)
    code = form.get("code", "").strip().rpartition("#")[2]
    try:
        opened = enrolment.open_link(
            rt.engine,
            rt.keys.sealing_key,
            code,
            service=rt.settings.service,
            now=rt.now(),
            random_bytes=secrets.token_bytes,
        )
    except LinkInvalid as error:
        return _code_page(request, error)
    return _form_page(request, opened, None)


@router.post("/enrol")
async def post_enrol(request: Request, form: Form) -> Response:
    """Set the password and complete the enrolment."""
    rt = runtime(request)
    code, new = form.get("code", ""), form.get("new", "")
    try:
        if new != form.get("again", ""):
            raise StaffInvalid("The two new passwords differ.")
        member, active = await login_queue.queues().enrolling.run(
            lambda: enrolment.finish(
                rt.engine,
                rt.keys.sealing_key,
                code,
                password=new,
                one_time_code=form.get("one_time_code", ""),
                now=rt.now(),
            )
        )
    except LinkInvalid as error:
        return _code_page(request, error)
    except (StaffInvalid, TooManyAttempts) as error:
        try:
            opened = await login_queue.queues().enrolling.run(
                lambda: enrolment.opened_link(
                    rt.engine, rt.keys.sealing_key, code, service=rt.settings.service, now=rt.now()
                )
            )
        except LinkInvalid as gone:
            return _code_page(request, gone)
        return _form_page(request, opened, error)
    response = render(request, "enrol_done.html", member.language, member=member, active=active)
    await remember_device(request, response, member.name)
    return response


def _code_page(request: Request, error: LedgerError | None) -> Response:
    if error is not None:
        request.scope["state"]["code"] = error.code
    problem = None if error is None else str(error)
    return render(request, "enrol_open.html", locale_of(request), status=422 if error else 200, problem=problem)


def _form_page(request: Request, opened: OpenedLink, error: LedgerError | None) -> Response:
    if error is not None:
        request.scope["state"]["code"] = error.code
    status = 200 if error is None else 429 if isinstance(error, TooManyAttempts) else 422
    return render(
        request,
        "enrol.html",
        opened.staff.language,
        status=status,
        opened=opened,
        picture=qr_picture(opened.totp_uri),
        problem=None if error is None else str(error),
    )
