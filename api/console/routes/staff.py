"""Accounts of the staff, for admins. Resetting, disabling and changing an account are confirmed on a page of their
own."""

from __future__ import annotations

import io
import secrets
from collections.abc import Mapping
from enum import StrEnum

import segno
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import Admin, console_router
from api.deps import runtime
from api.web.base import base_of
from api.web.forms import Form
from api.web.pages import redirect, render
from api.web.security import own_origin
from ledger.errors import (
    AlreadyExists,
    ConflictOfInterest,
    InvalidRequest,
    LedgerError,
    NotFound,
    StaffChanged,
    StaffInvalid,
)
from ledger.server.db.tables.staff import ROLES
from ledger.server.staff import accounts as service
from ledger.server.staff import enrolment
from ledger.server.staff.accounts import StaffMember
from ledger.server.staff.enrolment import Invitation

PAGE = "/console/staff"

router = console_router()


class AccountStep(StrEnum):
    """A step on an account."""

    RESET = "reset"
    DISABLE = "disable"
    ENABLE = "enable"
    ROLE = "role"
    CONFIRM = "confirm"


def _(text: str) -> str:
    """Mark a text for the catalogues."""
    return text


NOT_TICKED = _("Tick the box to confirm.")


@router.get("/staff")
def get_staff(request: Request, staff: Admin) -> Response:
    """Show all accounts, and the form for a new one."""
    return _page(request, staff, None, {})


@router.post("/staff")
def post_staff(request: Request, staff: Admin, form: Form) -> Response:
    """Create an account; the answering page shows its enrolment link, once."""
    rt = runtime(request)
    group = form.get("control_group", "").strip()
    try:
        invitation = enrolment.invite(
            rt.engine,
            rt.keys.sealing_key,
            name=form.get("name", "").strip(),
            role=form.get("role", ""),
            control_group=group or None,
            language=form.get("language", ""),
            now=rt.now(),
            random_bytes=secrets.token_bytes,
            by=staff.id,
        )
    except (StaffInvalid, AlreadyExists) as error:
        return _page(request, staff, error, dict(form))
    return _link_page(request, staff, invitation)


@router.get("/staff/{name}/{step}")
def get_step(request: Request, staff: Admin, name: str, step: AccountStep) -> Response:
    """Show the effect of the step, and the form that confirms it."""
    return _step_page(request, staff, name, step, None, {})


@router.post("/staff/{name}/{step}")
def post_step(request: Request, staff: Admin, name: str, step: AccountStep, form: Form) -> Response:
    """Perform the step."""
    rt = runtime(request)
    try:
        revision = _revision(form)
        if form.get("confirm") != "yes":
            raise InvalidRequest(NOT_TICKED)
        if step is AccountStep.RESET:
            invitation = enrolment.reset(
                rt.engine, name, revision=revision, now=rt.now(), random_bytes=secrets.token_bytes, by=staff.id
            )
            return _link_page(request, staff, invitation)
        if step is AccountStep.DISABLE:
            service.disable_staff(rt.engine, name, rt.now(), staff.id)
        elif step is AccountStep.ENABLE:
            service.enable_staff(rt.engine, name, rt.now(), staff.id)
        elif step is AccountStep.ROLE:
            enrolment.change_role(rt.engine, name, form.get("role", ""), revision=revision, now=rt.now(), by=staff.id)
        else:
            enrolment.confirm(rt.engine, name, revision=revision, now=rt.now(), by=staff.id)
    except (StaffInvalid, StaffChanged, ConflictOfInterest, InvalidRequest) as error:
        return _step_page(request, staff, name, step, error, form)
    return redirect(PAGE)


def _revision(form: Mapping[str, str]) -> int:
    """Return the account's revision that the page showed. Raises InvalidRequest."""
    text = form.get("revision", "")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidRequest("The form is incomplete. Open the page again.")
    return int(text)


def _page(request: Request, staff: StaffMember, error: LedgerError | None, given: dict[str, str]) -> Response:
    rt = runtime(request)
    status = 200
    if error is not None:
        request.scope["state"]["code"] = error.code
        status = 409 if isinstance(error, AlreadyExists) else 422
    return render(
        request,
        "staff.html",
        staff.language,
        status=status,
        accounts=service.list_staff(rt.engine, staff.control_group),
        groups=service.control_groups(rt.engine),
        roles=ROLES,
        now=rt.now(),
        problem=None if error is None else str(error),
        given=given,
    )


def _step_page(
    request: Request,
    staff: StaffMember,
    name: str,
    step: AccountStep,
    error: LedgerError | None,
    given: Mapping[str, str],
) -> Response:
    """Return the page that confirms a step. Raises NotFound if there is no such account."""
    rt = runtime(request)
    accounts = service.list_staff(rt.engine, staff.control_group)
    account = next((each for each in accounts if each.name == name), None)
    if account is None:
        raise NotFound("There is no account of this name.")
    status = 200
    if error is not None:
        request.scope["state"]["code"] = error.code
        status = {StaffChanged: 409, ConflictOfInterest: 403}.get(type(error), 422)
    return render(
        request,
        "staff_step.html",
        staff.language,
        status=status,
        one=account,
        step=step.value,
        roles=ROLES,
        guarded=sorted(enrolment.GUARDED),
        second_admin=enrolment.has_second_admin(rt.engine, staff.id, but=account.id),
        problem=None if error is None else str(error),
        given=given,
    )


def _link_page(request: Request, staff: StaffMember, invitation: Invitation) -> Response:
    link = f"{own_origin(request)}{base_of(request)}/console/enrol#{invitation.code}"
    return render(request, "staff_link.html", staff.language, made=invitation, link=link)


def qr_picture(text: str) -> Markup:
    """Return a QR code as inline SVG: shapes only, no style and no script."""
    out = io.BytesIO()
    code = segno.make(text, error="m")
    code.save(out, kind="svg", xmldecl=False, scale=5, border=4, svgclass="qr", lineclass=None, light="#fff")
    return Markup(out.getvalue().decode())
