"""Pages: templates in two languages, with the formats of each, and errors as pages.

Each area (`/console`, `/me`) has a folder of templates, looked up before the shared one. Everything is escaped; a name
that a template uses and nobody gave is an error, not an empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from api.web.security import page_headers
from api.web.static import static_url
from ledger.i18n import LOCALES, Texts, negotiate, texts

_API = Path(__file__).resolve().parents[1]
AREAS: Mapping[str, Path] = {"/console": _API / "console" / "templates", "/me": _API / "me" / "templates"}
"""Where the templates of each area lie, by the prefix of its paths."""

SHARED = Path(__file__).resolve().parent / "templates"


def area_of(path: str) -> str | None:
    """The area that a path belongs to, None for paths of the API."""
    for prefix in AREAS:
        if path == prefix or path.startswith(f"{prefix}/"):
            return prefix
    return None


def render(
    request: Request, template: str, locale: str | None = None, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """The page that `template` of the request's area makes of `values`, in `locale` (by default `locale_of`).

    Every template knows `request_path`, `locale`, `staff` (None unless signed in), `zone` (UTC unless given: the zone
    that the filters `date` and `time` use), `locales`, `static(name)` and gettext.
    """
    return HTMLResponse(
        page_text(request, template, locale or locale_of(request), **values), status, headers=page_headers()
    )


def page_text(request: Request, template: str, locale: str, **values: Any) -> str:
    """What `render` sends."""
    known: dict[str, Any] = {
        "request_path": request.url.path,
        "locale": locale,
        "locales": LOCALES,
        "staff": request.scope["state"].get("staff"),
        "zone": UTC,
    }
    return environment(area_of(request.url.path), locale).get_template(template).render({**known, **values})


def locale_of(request: Request) -> str:
    """The language of whoever is signed in (a session leaves it in the request's state), else the browser's."""
    known = request.scope["state"].get("locale")
    return str(known) if known else negotiate(request.headers.get("accept-language"))


@cache
def environment(area: str | None, locale: str) -> Environment:
    """The templates of an area in a language, compiled once."""
    folders = [SHARED] if area is None else [AREAS[area], SHARED]
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    language = texts(locale)
    # Newstyle: texts are escaped only after what they are filled with was.
    made.install_gettext_translations(language.catalogue, newstyle=True)  # type: ignore[attr-defined]
    made.globals["static"] = static_url
    made.filters.update(_filters(language))
    return made


def _filters(language: Texts) -> dict[str, Any]:
    @pass_context
    def date(context: Context, moment: datetime, zone: tzinfo | None = None) -> str:
        return language.date(moment, zone or context["zone"])

    @pass_context
    def time(context: Context, moment: datetime, zone: tzinfo | None = None) -> str:
        return language.time(moment, zone or context["zone"])

    return {
        "date": date,
        "time": time,
        "money": language.money,
        "percent": language.percent,
        "number": language.number,
    }


def redirect(path: str) -> Response:
    """See other (303): the page at `path` of our own."""
    return Response(status_code=303, headers={**page_headers(), "Location": path})


def is_page(scope: Scope) -> bool:
    """Whether the request is a browser's, for a page."""
    return area_of(scope["path"]) is not None
