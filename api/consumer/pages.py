"""The pages of /me: the values that templates use, and the texts of errors in forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from api.consumer.session import COOKIE, LANGUAGE_COOKIE, PATH, SessionEnded, asked_language
from api.deps import runtime
from api.web.base import base_of
from api.web.cookies import drop_cookie, set_cookie
from api.web.pages import locale_of, render
from ledger import code_names as case_texts
from ledger.errors import ActionRefused, AttachmentRefused, LedgerError, SessionExpired
from ledger.evidence import finding_texts
from ledger.i18n import LOCALES, texts
from ledger.protocol.encoding import parse_time
from ledger.rules.appeals import MAX_TEXT_CHARS, OPEN_STATES, Action, CaseState
from ledger.rules.findings import Trust
from ledger.rules.jurisdictions import PAGES_WITHOUT_SESSION
from ledger.server.appeals import record_texts
from ledger.server.appeals.case_changes import zone_of
from ledger.server.appeals.sessions import SubjectSessionRow
from ledger.server.texts.letters import Paragraph


def _(message: str) -> str:
    """Return `message` itself, marked for the catalogue; it is translated when it is shown."""
    return message


MAX_QUERY_CHARS = 64
"""Characters of a value of the address that are repeated in a link of the page."""

_WRITE_SOMETHING = _("Write something, at most 2000 characters.")
_MOVED_ON = _("The case has moved on, so this is not possible any more. Look at the case as it is now.")
_EXPIRED = _("The record has expired: there is nothing left to contest.")
_WITHDRAWN_OFTEN = _("You took appeals against this report back three times. This one will be decided.")
_NOT_TAKEN = _("This was not accepted. Look at the form again.")
_FILE: Mapping[str, str] = {
    "empty": _("Choose a file that is not empty."),
    "too_large": _("The file is too large."),
    "type_not_taken": _("Only JPEG, PNG and WebP pictures, PDF documents, MP4 videos and plain text are taken."),
    "not_plain_text": _("Only JPEG, PNG and WebP pictures, PDF documents, MP4 videos and plain text are taken."),
    "markup": _("This text file looks like a web page. Send a picture of it or a PDF document instead."),
    "too_many_pixels": _("The picture is too large. Send a smaller copy of it."),
    "too_many_frames": _("The picture moves too much. Send it as an MP4 video."),
    "too_many_files": _("The case takes no more files. Put the rest into a message."),
}
_BROKEN = _("The file is damaged or not what it claims to be. Save it again, or send a picture of it.")


_STATES: Mapping[str, str] = {CaseState.AWAITING_SUBJECT.value: _("We are waiting for your answer")}
_ACTIONS: Mapping[str, str] = {
    Action.ASK_SUBJECT.value: _("Question to you"),
    Action.SUBJECT_ANSWERED.value: _("Your answer"),
    Action.SUBJECT_SILENT.value: _("You did not answer in time"),
}
"""Names that the person sees instead of the general ones."""


def said_of(error: LedgerError, locale: str) -> str:
    """Return the text of an error for the person's form."""
    translate = texts(locale).gettext
    if isinstance(error, AttachmentRefused):
        return translate(_FILE.get(str(error.details.get("reason")), _BROKEN))
    if isinstance(error, ActionRefused):
        if error.details.get("expired"):
            return translate(_EXPIRED)
        return translate(_WITHDRAWN_OFTEN if "limit" in error.details else _MOVED_ON)
    return translate(_WRITE_SOMETHING if "limit_chars" in error.details else _NOT_TAKEN)


def page(
    request: Request, template: str, session: SubjectSessionRow | None = None, *, status: int = 200, **values: Any
) -> Response:
    """Return the page of `template`. All templates get the names of codes (`conduct(code)` and so on), and `when(text)`
    and `last_day(text)` for times of the API; in a session also the time zone of its law."""
    locale = locale_of(request)
    policy = runtime(request).policy
    zone = zone_of(policy, values.get("profile", session.profile if session else PAGES_WITHOUT_SESSION))
    known: dict[str, Any] = {
        **_names(locale),
        "when": parse_time,
        "last_day": lambda text: texts(locale).last_day(parse_time(text), zone),
        "zone": zone,
        "session": session,
        "max_chars": MAX_TEXT_CHARS,
        "open_states": [state.value for state in OPEN_STATES],
        "languages": _languages(request, locale),
        "errors": [],
    }
    response = render(request, template, locale, status=status, **{**known, **values})
    asked = asked_language(request)
    if asked is not None:
        set_cookie(request, response, LANGUAGE_COOKIE, PATH, asked)
    return response


def _names(locale: str) -> dict[str, Callable[..., str] | str]:
    def named(function: Callable[..., str]) -> Callable[..., str]:
        return partial(function, locale=locale)

    return {
        "conduct": named(case_texts.conduct_text),
        "grounds": named(case_texts.grounds_text),
        "case_state": partial(_to_the_person, _STATES, case_texts.state_text, locale),
        "case_outcome": named(case_texts.outcome_text),
        "evidence": named(case_texts.evidence_text),
        "finding": lambda code, trust: finding_texts.title(code, locale, _trust(trust)),
        "finding_trust": lambda code, trust: finding_texts.trust_sentence(code, _trust(trust), locale),
        "finding_limit": lambda code, trust: finding_texts.limit(code, locale, _trust(trust)),
        "origin": named(record_texts.origin_text),
        "verdict": named(record_texts.verdict_text),
        "former_label": texts(locale).gettext(record_texts.FORMER_LABEL),
        "happened": partial(_to_the_person, _ACTIONS, case_texts.action_text, locale),
        "kind": named(case_texts.kind_text),
        "report_status": named(case_texts.status_text),
        "refund": named(record_texts.refund_text),
        "purpose": named(record_texts.purpose_text),
        "claim": named(record_texts.claim_text),
        "band": lambda band: case_texts.band_text((band["low"], band["high"]), band["currency"], locale),
    }


def _trust(trust: str | None) -> Trust | None:
    return None if trust is None else Trust(trust)


def _to_the_person(own: Mapping[str, str], others: Callable[[str, str], str], locale: str, code: str) -> str:
    return texts(locale).gettext(own[code]) if code in own else others(code, locale)


def _languages(request: Request, locale: str) -> list[tuple[str, str]]:
    """Return (language, address of this page in it) of the other languages; none for a form that came back, as it has
    no address."""
    if request.method != "GET":
        return []
    query = {name: value[:MAX_QUERY_CHARS] for name, value in request.scope["state"].get("query", {}).items()}
    path = base_of(request) + request.url.path
    return [
        (locale_code, f"{path}?{urlencode({**query, 'lang': locale_code})}")
        for locale_code in LOCALES
        if locale_code != locale
    ]


def blocks(paragraphs: Sequence[Paragraph]) -> list[tuple[str, list[str]]]:
    """Return a letter's paragraphs as (style, texts): consecutive items are one list, every other paragraph is
    its own."""
    blocks_of_letter: list[tuple[str, list[str]]] = []
    for style, group in groupby(paragraphs, key=lambda part: part.style):
        lines = [part.text for part in group]
        blocks_of_letter += [(style.value, lines)] if style == "item" else [(style.value, [text]) for text in lines]
    return blocks_of_letter


def minutes_left(session: SubjectSessionRow, now: datetime) -> int:
    """Return whole minutes until the session ends."""
    return 0 if session.expires_at is None else max(0, int((session.expires_at - now).total_seconds()) // 60)


async def session_ended(request: Request, error: Exception) -> Response:
    """Handle `SessionEnded`: show how to get a new link, and the text that the person had written."""
    assert isinstance(error, SessionEnded)
    return ended_page(request, text=error.text)


def ended_page(request: Request, *, text: str = "", refused: bool = False) -> Response:
    """Return the page without a session: ended, or (`refused`) the link was not valid."""
    request.scope["state"]["code"] = SessionExpired.code
    response = page(request, "open.html", status=401, ended=not refused, refused=refused, text=text)
    drop_cookie(request, response, COOKIE, PATH)
    return response
