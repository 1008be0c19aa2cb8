"""A case: its page, its files, its letters, and the letter of a decision before it is made."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from api.console.auth import console_router
from api.console.case_pages import CHOICES, LETTERS, REFUSED_HERE, case_page
from api.console.forms import Written, draft_of, locale_of, seen_of
from api.console.routes.queue import Acting, Reading
from api.deps import runtime
from api.web.files import file_response
from api.web.pages import render
from ledger.rules.appeals import CaseState
from ledger.server.appeals import attachments
from ledger.server.appeals.case_page import attachment, opened_case
from ledger.server.appeals.letter_facts import all_letters, letter_of
from ledger.server.appeals.staff_actions import preview, proposal_letter
from ledger.server.staff.accounts import StaffMember, as_staff

router = console_router()


@router.get("/cases/{case}")
def get_case(request: Request, case: str, staff: Reading) -> Response:
    """Show the case."""
    return case_page(request, case, staff)


@router.get("/cases/{case}/files/{file}")
def get_file(request: Request, case: str, file: str, staff: Reading) -> Response:
    """Send a file of the case. Pictures are shown, other files are downloaded; nothing in them runs."""
    rt = runtime(request)
    row = attachment(rt.context, case, file, as_staff(staff))
    data = attachments.read(rt.settings, row.file)
    return file_response(data, row.media_type, row.name)


@router.get("/cases/{case}/letter")
def get_letter(request: Request, case: str, staff: Reading) -> Response:
    """Show a letter of the case, to read or print: `kind` (default: the newest one) in `locale`, of `round` (default:
    the newest that has one)."""
    context = runtime(request).context
    of_round = request.query_params.get("round", "")
    number = int(of_round) if of_round in ("1", "2") else None
    requested = request.query_params.get("kind", "")[:20] or None
    with opened_case(context, case, as_staff(staff), "letter_read", requested) as (connection, row):
        locale = locale_of(request.query_params.get("locale", ""), row.locale)
        kinds = list(dict.fromkeys(kind.value for _, kind in all_letters(connection, row)))
        if row.state == CaseState.AWAITING_SIGNOFF:
            kinds.append("proposed")
        kind = requested or kinds[-1]
        if kind == "proposed":
            letter = proposal_letter(connection, context, row, locale)
        else:
            letter = letter_of(connection, row, context, kind, locale, row.filed_via, number)
    return render(
        request,
        "letter.html",
        staff.language,
        case=case,
        letter=letter,
        kind=kind,
        kinds=kinds,
        letter_names=LETTERS,
        case_locale=row.locale,
    )


@router.post("/cases/{case}/preview")
def post_preview(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Show the letter that this decision would send, with the entered values; the decision is made or edited from
    there."""
    return show_preview(request, case, staff, form)


@router.post("/cases/{case}/edit")
def post_edit(request: Request, form: Written, case: str, staff: Acting) -> Response:
    """Return from the preview, with the entered values."""
    return case_page(request, case, staff, typed=form)


def show_preview(request: Request, case: str, staff: StaffMember, form: Mapping[str, str]) -> Response:
    """Show the second page of a decision, without which no decision is made."""
    context = runtime(request).context
    try:
        seen, draft = seen_of(form), draft_of(form)
        with opened_case(context, case, as_staff(staff), "decision_preview") as (connection, row):
            locale = locale_of(form.get("locale", ""), row.locale)
            letter, two_people = preview(connection, context, row, as_staff(staff), draft, locale)
    except REFUSED_HERE as error:
        return case_page(request, case, staff, typed=form, error=error)
    return render(
        request,
        "decide.html",
        staff.language,
        case=case,
        seen=seen,
        draft=draft,
        letter=letter,
        two=two_people,
        choices=CHOICES,
        case_locale=row.locale,
    )
