"""Member platforms for supervisors: how each does, and suspending, resuming and quotas."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import console_router, needs
from api.deps import runtime
from api.web.forms import Form
from api.web.pages import redirect, render
from ledger.errors import ConflictOfInterest, InvalidRequest, LedgerError, RoleMissing
from ledger.protocol.encoding import from_day
from ledger.server.reports.former_labels import former_labels
from ledger.server.staff.accounts import StaffMember
from ledger.server.stats import platform_health as service

PAGE = "/console/platforms"

Reader = Annotated[StaffMember, Depends(needs("supervisor", "auditor", "admin"))]
"""Somebody who may see the platforms."""

Actor = Annotated[StaffMember, Depends(needs(*service.ACTING_ROLES))]
"""Somebody whose role may act on one."""

router = console_router()


class Step(StrEnum):
    """What can be done to a platform."""

    SUSPEND = "suspend"
    RESUME = "resume"
    QUOTA = "quota"


def _(text: str) -> str:
    """Marks a text for the catalogues."""
    return text


NOT_TICKED = _("Tick the box to confirm.")
BAD_QUOTA = _("A quota is a whole number of elements a day, or empty for the default.")


@router.get("/platforms")
def get_platforms(request: Request, staff: Reader) -> Response:
    """All platforms."""
    rt = runtime(request)
    found = service.platforms(rt.engine, rt.policy, rt.settings, rt.now(), staff.control_group)
    return render(request, "platforms.html", staff.language, platforms=found)


@router.get("/platforms/{name}")
def get_platform(request: Request, staff: Reader, name: str) -> Response:
    """One platform."""
    rt = runtime(request)
    found = service.platform(rt.engine, rt.policy, rt.settings, rt.now(), name, staff.control_group)
    return render(
        request,
        "platform.html",
        staff.language,
        one=found,
        from_day=from_day,
        months=rt.policy.weights.window_months,
        former=former_labels(rt.engine, rt.settings.service, name, staff),
        acts=service.may_act(staff),
        bound=staff.control_group is not None,
    )


@router.get("/platforms/{name}/{step}")
def get_step(request: Request, staff: Actor, name: str, step: Step) -> Response:
    """What the step does, and the form that confirms it."""
    _check_role(staff, step)
    return _step_page(request, staff, name, step, None, {})


@router.post("/platforms/{name}/{step}")
def post_step(request: Request, staff: Actor, name: str, step: Step, form: Form) -> Response:
    """Do it."""
    _check_role(staff, step)
    try:
        if form.get("confirm") != "yes":
            raise InvalidRequest(NOT_TICKED)
        _do(request, staff, name, step, form)
    except (InvalidRequest, ConflictOfInterest) as error:
        return _step_page(request, staff, name, step, error, form)
    return redirect(f"{PAGE}/{name}")


def _do(request: Request, staff: StaffMember, name: str, step: Step, form: Mapping[str, str]) -> None:
    rt, reason = runtime(request), form.get("reason", "")
    if step is Step.SUSPEND:
        service.suspend(rt.engine, staff, name, reason, rt.now(), urgent=form.get("urgent") == "yes")
    elif step is Step.RESUME:
        service.resume(rt.engine, staff, name, reason, rt.now())
    else:
        service.change_quota(rt.engine, staff, name, _quota(form.get("quota", "")), reason, rt.now())


def _quota(typed: str) -> int | None:
    text = typed.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidRequest(BAD_QUOTA)
    return int(text)


def _check_role(staff: StaffMember, step: Step) -> None:
    if step is Step.QUOTA and staff.role != "admin":
        raise RoleMissing("Your role may not do this.")


def _step_page(
    request: Request, staff: StaffMember, name: str, step: Step, error: LedgerError | None, given: Mapping[str, str]
) -> Response:
    rt = runtime(request)
    found = service.platform(rt.engine, rt.policy, rt.settings, rt.now(), name, staff.control_group)
    status = 200
    if error is not None:
        request.scope["state"]["code"] = error.code
        status = 403 if isinstance(error, ConflictOfInterest) else 422
    return render(
        request,
        "platform_step.html",
        staff.language,
        status=status,
        one=found,
        step=step.value,
        bound=staff.control_group is not None,
        default_quota=rt.settings.oprf_daily_quota_elements,
        problem=None if error is None else str(error),
        given=given,
    )
