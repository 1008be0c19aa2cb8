"""The policy simulator: the effect that other numbers in the policy would have on the present standings. It changes
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import console_router, needs
from api.console.figures import tier_names
from api.deps import runtime
from api.web.forms import Form
from api.web.pages import render
from api.web.security import page_headers
from ledger.code_names import conduct_text
from ledger.i18n import Texts, texts
from ledger.rules.policy.values import MIN_PUBLICATION_DAYS, Policy
from ledger.rules.standing import Tier
from ledger.server.staff.accounts import StaffMember
from ledger.server.stats import policy_draft, simulator
from ledger.server.stats.policy_draft import Draft, DraftRefused, Field, fields_of
from ledger.server.stats.simulator import SAMPLE_TAGS, Simulation

RUNNING_ROLES = ("supervisor", "admin")

Reader = Annotated[StaffMember, Depends(needs(*RUNNING_ROLES, "auditor"))]
"""A member of staff who may see the policy in force."""

Runner = Annotated[StaffMember, Depends(needs(*RUNNING_ROLES))]
"""A member of staff who may simulate another policy."""

router = console_router()


@router.get("/simulator")
def get_simulator(request: Request, staff: Reader) -> Response:
    """Show the form with the policy in force."""
    return _page(request, staff, {})


@router.post("/simulator/policy.toml")
def post_draft(request: Request, staff: Runner, form: Form) -> Response:
    """Send the changed policy as a file for `refund-ledger policy publish`."""
    try:
        draft, _ = _draft(request, form)
    except DraftRefused as refused:
        return _page(request, staff, form, refused=refused)
    name = f"policy-{draft.policy.version}.toml"
    headers = {**page_headers(), "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(draft.text, headers=headers, media_type="application/toml")


@router.post("/simulator")
def post_simulator(request: Request, staff: Runner, form: Form) -> Response:
    """Show the effect of the changed policy."""
    rt = runtime(request)
    try:
        draft, policy = _draft(request, form)
    except DraftRefused as refused:
        return _page(request, staff, form, refused=refused)
    simulation = simulator.simulate(rt.engine, policy, draft, staff.id, rt.now())
    return _page(request, staff, form, draft=draft, simulation=simulation)


def _draft(request: Request, form: Mapping[str, str]) -> tuple[Draft, Policy]:
    """Return the draft, with the version that may be published next, and the policy in force. Raises DraftRefused."""
    rt = runtime(request)
    text, policy = simulator.policy_in_force(rt.engine, rt.now())
    return policy_draft.draft(text, policy, form, rt.policies.timeline.newest.version + 1), policy


def _page(
    request: Request,
    staff: StaffMember,
    given: Mapping[str, str],
    *,
    refused: DraftRefused | None = None,
    draft: Draft | None = None,
    simulation: Simulation | None = None,
) -> Response:
    rt, t = runtime(request), texts(staff.language)
    _, policy = simulator.policy_in_force(rt.engine, rt.now())
    before = policy_draft.values_of(policy)
    problems = {} if refused is None else {k: t.gettext(text, **v) for k, (text, v) in refused.problems.items()}
    if refused is not None:
        request.scope["state"]["code"] = "policy_invalid"
    rows: dict[str, list[Any]] = {table: [] for table in ("tiers", "severity", "retention_days", "weights")}
    fields = fields_of(policy)
    for field in fields:
        value = before[field.name]
        shown = given.get(field.name, "" if value is None else str(value))
        rows[field.table].append((field, label_of(field, t), value, shown, problems.get(field.name)))
    return render(
        request,
        "simulator.html",
        staff.language,
        status=200 if refused is None else 422,
        policy=policy,
        rows=rows,
        problem=problems.get(""),
        wrong=len(problems),
        runs=staff.role in RUNNING_ROLES,
        made=draft,
        found=simulation,
        tiers=list(Tier),
        tier_names=tier_names(t),
        labels={field.name: label_of(field, t) for field in fields},
        sample=SAMPLE_TAGS,
        notice_days=MIN_PUBLICATION_DAYS,
        announced=[
            (policy_ahead.version, policy_ahead.in_effect_at)
            for policy_ahead in rt.policies.timeline.announced(rt.now())
        ],
    )


def label_of(field: Field, t: Texts) -> str:
    """Return the label of a number of the policy, with its unit."""
    if field.table == "severity":
        return conduct_text(field.key, t.locale)
    if field.table == "retention_days":
        return t.gettext("Severity %(severity)s", severity=field.key)
    return {
        "watch_total_millipoints": t.gettext("Watch from a total of (thousandths of a point)"),
        "review_total_millipoints": t.gettext("Review from a total of (thousandths of a point)"),
        "review_second_group_millipoints": t.gettext(
            "Review needs from an independent second group (thousandths of a point)"
        ),
        "high_second_group_millipoints": t.gettext("High from an independent second group of (thousandths of a point)"),
        "watch_cap_hundredths": t.gettext("Most points shown at watch (hundredths of a point)"),
        "review_cap_hundredths": t.gettext("Most points shown at review (hundredths of a point)"),
        "credit_half_points": t.gettext("Points at which credit is 50 of 100"),
        "floor_twentieths": t.gettext("Least weight of a control group (twentieths)"),
        "floor_eighths": t.gettext("Least weight of a control group (eighths)"),
        "prior_reports": t.gettext("Cases that every group is credited with"),
    }[field.key]
