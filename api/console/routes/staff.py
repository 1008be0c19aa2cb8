"""Accounts of the staff: for admins."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import Admin, console_router
from api.deps import runtime
from api.web.forms import Form
from api.web.pages import redirect, render
from ledger.errors import AlreadyExists, LedgerError, NotFound, StaffInvalid
from ledger.service import staff as service
from ledger.service.staff import Enrolment, StaffMember
from ledger.store.staff_tables import ROLES

PAGE = "/console/staff"

router = console_router()


@router.get("/staff")
def get_staff(request: Request, staff: Admin) -> Response:
    """All accounts, and the form for a new one."""
    return _page(request, staff, None, {})


@router.post("/staff")
def post_staff(request: Request, staff: Admin, form: Form) -> Response:
    """Make an account; its secrets are on the page that answers, and nowhere else."""
    rt = runtime(request)
    group = form.get("control_group", "").strip()
    try:
        made = service.add_staff(
            rt.engine,
            rt.keys.sealing_key,
            name=form.get("name", "").strip(),
            role=form.get("role", ""),
            control_group=group or None,
            language=form.get("language", ""),
            service=rt.settings.service,
            now=rt.now(),
            random_bytes=secrets.token_bytes,
            by=staff.id,
        )
    except (StaffInvalid, AlreadyExists) as error:
        return _page(request, staff, error, dict(form))
    return _secrets_page(request, staff, made)


@router.post("/staff/{name}/reset")
def post_reset(request: Request, staff: Admin, name: str) -> Response:
    """A new password and a new seed, shown once."""
    rt = runtime(request)
    made = service.reset_staff(
        rt.engine,
        rt.keys.sealing_key,
        name,
        service=rt.settings.service,
        now=rt.now(),
        random_bytes=secrets.token_bytes,
        by=staff.id,
    )
    return _secrets_page(request, staff, made)


@router.post("/staff/{name}/disable")
def post_disable(request: Request, staff: Admin, name: str) -> Response:
    """Shut an account."""
    rt = runtime(request)
    return _changed(request, staff, lambda: service.disable_staff(rt.engine, name, rt.now(), staff.id))


@router.post("/staff/{name}/enable")
def post_enable(request: Request, staff: Admin, name: str) -> Response:
    """Open it again, or lift a lock."""
    rt = runtime(request)
    return _changed(request, staff, lambda: service.enable_staff(rt.engine, name, rt.now(), staff.id))


@router.post("/staff/{name}/role")
def post_role(request: Request, staff: Admin, name: str, form: Form) -> Response:
    """Give another role."""
    rt, role = runtime(request), form.get("role", "")
    return _changed(request, staff, lambda: service.set_role(rt.engine, name, role, rt.now(), staff.id))


def _changed(request: Request, staff: StaffMember, change: Callable[[], None]) -> Response:
    try:
        change()
    except (StaffInvalid, NotFound) as error:
        return _page(request, staff, error, {})
    return redirect(PAGE)


def _page(request: Request, staff: StaffMember, error: LedgerError | None, given: dict[str, str]) -> Response:
    rt = runtime(request)
    status = 200
    if error is not None:
        request.scope["state"]["code"] = error.code
        status = {NotFound: 404, AlreadyExists: 409}.get(type(error), 422)
    return render(
        request,
        "staff.html",
        staff.language,
        status=status,
        accounts=service.list_staff(rt.engine),
        groups=service.control_groups(rt.engine),
        roles=ROLES,
        now=rt.now(),
        problem=None if error is None else str(error),
        given=given,
    )


def _secrets_page(request: Request, staff: StaffMember, made: Enrolment) -> Response:
    return render(request, "staff_secrets.html", staff.language, made=made, picture=qr_picture(made.totp_uri))


def qr_picture(text: str) -> Markup:
    """A QR code as SVG to stand in a page: shapes only, no style and no script."""
    out = io.BytesIO()
    code = segno.make(text, error="m")
    code.save(out, kind="svg", xmldecl=False, scale=5, border=4, svgclass="qr", lineclass=None, light="#fff")
    return Markup(out.getvalue().decode())
