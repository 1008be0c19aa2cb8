"""Rendering of pages: templates, languages and their formats, redirects.

Each area (`/console`, `/me`) has a folder of templates, looked up before the shared one. Every value is escaped; a
template's use of an undefined name is an error, not an empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from api.web.base import base_of_scope
from api.web.security import page_headers
from api.web.static import static_url
from ledger import code_names as case_texts
from ledger.i18n import LOCALES, Texts, negotiate, texts
from ledger.protocol.encoding import from_day
from ledger.rules.languages import LANGUAGES

_API = Path(__file__).resolve().parents[1]
AREAS: Mapping[str, Path] = {"/console": _API / "console" / "templates", "/me": _API / "consumer" / "templates"}
"""The folder of each area's templates, by the prefix of its paths."""

SHARED = Path(__file__).resolve().parent / "templates"


def area_of(path: str) -> str | None:
    """Return the area of a path, None for paths of the API."""
    for prefix in AREAS:
        if path == prefix or path.startswith(f"{prefix}/"):
            return prefix
    return None


def render(
    request: Request, template: str, locale: str | None = None, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """Return the page that `template` of the request's area renders from `values`, in `locale` (by default
    `locale_of`).

    Every template knows `request_path`, `base` (the prefix before every path of a link or form), `locale`, `staff`
    (None unless signed in), `zone` (UTC unless given: the zone that the filters `date` and `time` use), `locales`,
    `static(name)` and gettext.
    """
    return HTMLResponse(
        page_text(request, template, locale or locale_of(request), **values), status, headers=page_headers()
    )


def page_text(request: Request, template: str, locale: str, **values: Any) -> str:
    """Return the HTML that `render` sends."""
    known: dict[str, Any] = {
        "request_path": request.url.path,
        "base": base_of_scope(request.scope),
        "static": partial(static_url, base_of_scope(request.scope)),
        "locale": locale,
        "locales": LOCALES,
        "languages_by_code": LANGUAGES,
        "staff": request.scope["state"].get("staff"),
        "zone": UTC,
    }
    return environment(area_of(request.url.path), locale).get_template(template).render({**known, **values})


def locale_of(request: Request) -> str:
    """Return the language of the signed-in person (a session stores it in the request's state), else the browser's."""
    known = request.scope["state"].get("locale")
    return str(known) if known else negotiate(request.headers.get("accept-language"))


@cache
def environment(area: str | None, locale: str) -> Environment:
    """Return the templates of an area in a language. They are compiled once."""
    folders = [SHARED] if area is None else [AREAS[area], SHARED]
    created = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    language = texts(locale)
    # Newstyle: the values that fill a text are escaped before the text is.
    created.install_gettext_translations(language.catalogue, newstyle=True)  # type: ignore[attr-defined]
    created.filters.update(_filters(language))
    return created


def _filters(language: Texts) -> dict[str, Any]:
    @pass_context
    def date(context: Context, moment: datetime, zone: tzinfo | None = None) -> str:
        return language.date(moment, zone or context["zone"])

    @pass_context
    def time(context: Context, moment: datetime, zone: tzinfo | None = None) -> str:
        return language.time(moment, zone or context["zone"])

    @pass_context
    def last_day(context: Context, end: datetime, zone: tzinfo | None = None) -> str:
        """Return the last day of a period that ends at the midnight `end`."""
        return language.date(end - timedelta(seconds=1), zone or context["zone"])

    return {
        "date": date,
        "last_day": last_day,
        "day": lambda number: language.date(from_day(number), UTC),
        "time": time,
        "money": language.money,
        "percent": language.percent,
        "number": language.number,
        **{name: partial(_told, text, language.locale) for name, text in _CODES.items()},
    }


_CODES: Mapping[str, Callable[[str, str], str]] = {
    "action_text": case_texts.action_text,
    "actor_text": case_texts.actor_text,
    "conduct_text": case_texts.conduct_text,
    "evidence_text": case_texts.evidence_text,
    "grounds_text": case_texts.grounds_text,
    "kind_text": case_texts.kind_text,
    "outcome_text": case_texts.outcome_text,
    "state_text": case_texts.state_text,
    "status_text": case_texts.status_text,
    "tier_text": case_texts.tier_text,
}
"""Filters that return the text of a code."""


def _told(text: Callable[[str, str], str], locale: str, code: str) -> str:
    return text(code, locale)


class _Redirect(Response):
    """See other (303). The prefix of the service is added to the path when the answer is sent, so no route has to add
    it."""

    def __init__(self, path: str) -> None:
        super().__init__(status_code=303, headers={**page_headers(), "Location": path})
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the redirect."""
        self.headers["Location"] = base_of_scope(scope) + self._path
        await super().__call__(scope, receive, send)


def redirect(path: str) -> Response:
    """Return a redirect (303) to `path`, a path of this service without the service's prefix. A header has visible
    ASCII only, so every other character of the address is percent-encoded in UTF-8 (RFC 3986 section 2.5)."""
    return _Redirect(quote(path, safe="/?#[]@!$&'()*+,;=:%~", errors="replace"))


def is_page(scope: Scope) -> bool:
    """True if the request is for a page."""
    return area_of(scope["path"]) is not None
