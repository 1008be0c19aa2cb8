"""Member platforms for supervisors: the state of each, suspension and resumption, quotas."""

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
"""A member of staff who may see the platforms."""

Actor = Annotated[StaffMember, Depends(needs(*service.ACTING_ROLES))]
"""A member of staff whose role may act on a platform."""

router = console_router()


class PlatformStep(StrEnum):
    """A step on a platform."""

    SUSPEND = "suspend"
    RESUME = "resume"
    QUOTA = "quota"


def _(text: str) -> str:
    """Mark a text for the catalogues."""
    return text


NOT_TICKED = _("Tick the box to confirm.")
BAD_QUOTA = _("A quota is a whole number of elements a day, or empty for the default.")


@router.get("/platforms")
def get_platforms(request: Request, staff: Reader) -> Response:
    """Show all platforms."""
    rt = runtime(request)
    platforms = service.platforms(rt.engine, rt.policy, rt.settings, rt.now(), staff.control_group)
    return render(request, "platforms.html", staff.language, platforms=platforms)


@router.get("/platforms/{name}")
def get_platform(request: Request, staff: Reader, name: str) -> Response:
    """Show one platform."""
    rt = runtime(request)
    health = service.platform(rt.engine, rt.policy, rt.settings, rt.now(), name, staff.control_group)
    return render(
        request,
        "platform.html",
        staff.language,
        one=health,
        from_day=from_day,
        months=rt.policy.weights.window_months,
        former=former_labels(rt.engine, rt.settings.service, name, staff),
        acts=service.may_act(staff),
        bound=staff.control_group is not None,
    )


@router.get("/platforms/{name}/{step}")
def get_step(request: Request, staff: Actor, name: str, step: PlatformStep) -> Response:
    """Show the effect of the step, and the form that confirms it."""
    _check_role(staff, step)
    return _step_page(request, staff, name, step, None, {})


@router.post("/platforms/{name}/{step}")
def post_step(request: Request, staff: Actor, name: str, step: PlatformStep, form: Form) -> Response:
    """Perform the step."""
    _check_role(staff, step)
    try:
        if form.get("confirm") != "yes":
            raise InvalidRequest(NOT_TICKED)
        _do(request, staff, name, step, form)
    except (InvalidRequest, ConflictOfInterest) as error:
        return _step_page(request, staff, name, step, error, form)
    return redirect(f"{PAGE}/{name}")


def _do(request: Request, staff: StaffMember, name: str, step: PlatformStep, form: Mapping[str, str]) -> None:
    rt, reason = runtime(request), form.get("reason", "")
    if step is PlatformStep.SUSPEND:
        service.suspend(rt.engine, staff, name, reason, rt.now(), urgent=form.get("urgent") == "yes")
    elif step is PlatformStep.RESUME:
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


def _check_role(staff: StaffMember, step: PlatformStep) -> None:
    if step is PlatformStep.QUOTA and staff.role != "admin":
        raise RoleMissing("Your role may not do this.")


def _step_page(
    request: Request,
    staff: StaffMember,
    name: str,
    step: PlatformStep,
    error: LedgerError | None,
    given: Mapping[str, str],
) -> Response:
    rt = runtime(request)
    health = service.platform(rt.engine, rt.policy, rt.settings, rt.now(), name, staff.control_group)
    status = 200
    if error is not None:
        request.scope["state"]["code"] = error.code
        status = 403 if isinstance(error, ConflictOfInterest) else 422
    return render(
        request,
        "platform_step.html",
        staff.language,
        status=status,
        one=health,
        step=step.value,
        bound=staff.control_group is not None,
        default_quota=rt.settings.oprf_daily_quota_elements,
        problem=None if error is None else str(error),
        given=given,
    )
