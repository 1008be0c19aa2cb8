"""The limits of each route: the bytes of its body and the names of its query. Both are checked first.

A request is refused by this table before its body is read, before authentication, and before the framework handles it.
The table names every route; `tests/api/test_route_table.py` compares it with the router, so that a new route cannot be
forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args
from urllib.parse import unquote_to_bytes

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, compile_path

from ledger.errors import InvalidRequest

KIBIBYTE = 1024
SMALL_BYTES = 4 * KIBIBYTE
"""Limit of requests without a token or session, and of requests that need no body."""
ITEM_BYTES = 64 * KIBIBYTE
"""Limit of a single JSON object. A text of 2000 characters has at most 24,000 bytes in any spelling of JSON."""
ELEMENTS_BYTES = 128 * KIBIBYTE
"""Limit of 1000 blinded elements of 46 bytes each, with white space."""
REPORT_BYTES = 256 * KIBIBYTE
"""Limit of one report: 32 items of evidence with 64 findings each have at most 160,000 bytes."""
FORM_BYTES = 128 * KIBIBYTE
"""Limit of a form: seven texts of 2000 characters, each character of at most nine bytes, and the other fields of a
page."""
FORM_ROOM_BYTES = 4096
"""Bytes that a form may add to the file that a page sends: boundaries and the file's name."""

MAX_QUERY_BYTES = 4096
MAX_QUERY_PAIRS = 32

INTEGER = re.compile(r"(0|-?[1-9][0-9]{0,17})\Z")
"""An integer in a query: digits, no sign but a minus, no zeros in front, no blanks, below 10^18."""


class Size(Enum):
    """A kind of body; `BodyLimits` has its limit in bytes."""

    NONE = "none"
    SMALL = "small"
    ITEM = "item"
    ELEMENTS = "elements"
    REPORT = "report"
    BATCH = "batch"
    FORM = "form"
    FILE = "file"
    FILE_FORM = "file_form"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The configured limits in bytes: of a batch (no body but a file is larger) and of a file."""

    batch_bytes: int
    file_bytes: int

    def of(self, size: Size) -> int:
        """Return the limit of a kind of body, in bytes."""
        if size is Size.FILE:
            return self.file_bytes
        if size is Size.FILE_FORM:
            return self.file_bytes + FORM_ROOM_BYTES
        return min(_BYTES.get(size, self.batch_bytes), self.batch_bytes)


_BYTES: Mapping[Size, int] = {
    Size.NONE: SMALL_BYTES,  # some clients send `{}` or a blank where no body is expected
    Size.SMALL: SMALL_BYTES,
    Size.ITEM: ITEM_BYTES,
    Size.ELEMENTS: ELEMENTS_BYTES,
    Size.REPORT: REPORT_BYTES,
    Size.FORM: FORM_BYTES,
}

BODIES: Mapping[str, Size] = {
    "POST /v1/lookups": Size.ITEM,
    "POST /v1/lookups/batch": Size.BATCH,
    "POST /v1/oprf/evaluate": Size.ELEMENTS,
    "POST /v1/pictures/search": Size.ITEM,
    "POST /v1/reports": Size.REPORT,
    "POST /v1/reports/batch": Size.BATCH,
    "POST /v1/reports/{report_id}/withdraw": Size.ITEM,
    "POST /v1/reports/{report_id}/restitution": Size.ITEM,
    "POST /v1/reports/{report_id}/explain": Size.ITEM,
    "POST /v1/appeals": Size.ITEM,
    "POST /v1/appeals/{appeal_id}/messages": Size.ITEM,
    "POST /v1/appeals/{appeal_id}/attachments": Size.FILE,
    "POST /v1/appeals/{appeal_id}/withdraw": Size.ITEM,
    "POST /v1/appeals/{appeal_id}/reopen": Size.ITEM,
    "POST /v1/appeals/{appeal_id}/concede": Size.ITEM,
    "POST /v1/appeals/{appeal_id}/agree": Size.ITEM,
    "POST /v1/appeals/{appeal_id}/reopen-request": Size.REPORT,
    "POST /v1/subject-sessions": Size.ITEM,
    "POST /v1/webhooks": Size.ITEM,
    "POST /v1/webhooks/{webhook_id}/rotate": Size.NONE,
    "POST /v1/webhooks/{webhook_id}/enable": Size.NONE,
    "POST /v1/webhooks/{webhook_id}/test": Size.NONE,
    "POST /v1/webhooks/{webhook_id}/deliveries/{message_id}/replay": Size.NONE,
    "DELETE /v1/webhooks/{webhook_id}": Size.NONE,
    "POST /v1/me/session": Size.SMALL,
    "DELETE /v1/me/session": Size.NONE,
    "POST /v1/me/statements": Size.ITEM,
    "POST /v1/me/appeals": Size.ITEM,
    "POST /v1/me/appeals/{case_id}/messages": Size.ITEM,
    "POST /v1/me/appeals/{case_id}/withdraw": Size.NONE,
    "POST /v1/me/appeals/{case_id}/agree": Size.NONE,
    "POST /v1/me/appeals/{case_id}/reopen": Size.ITEM,
    "POST /v1/me/appeals/{case_id}/attachments": Size.FILE,
    "POST /me/open": Size.SMALL,
    "POST /me/end": Size.SMALL,
    "POST /me/statement": Size.FORM,
    "POST /me/appeal": Size.FORM,
    "POST /me/cases/{case_id}/messages": Size.FORM,
    "POST /me/cases/{case_id}/reopen": Size.FORM,
    "POST /me/cases/{case_id}/withdraw": Size.SMALL,
    "POST /me/cases/{case_id}/agree": Size.SMALL,
    "POST /me/cases/{case_id}/files": Size.FILE_FORM,
    "POST /console/login": Size.SMALL,
    "POST /console/logout": Size.SMALL,
    "POST /console/enrol": Size.SMALL,
    "POST /console/enrol/open": Size.SMALL,
    "POST /console/password": Size.FORM,
    "POST /console/language": Size.FORM,
    "POST /console/queue/next": Size.FORM,
    "POST /console/held/{report}/{step}": Size.FORM,
    "POST /console/reopenings/{case}/{answer}": Size.FORM,
    **{
        f"POST /console/cases/{{case}}/{step}": Size.FORM
        for step in (
            "preview", "edit", "inspect", "take", "assign", "skip", "hand-back", "note", "ask-reporter", "ask-subject",
            "extend", "decline", "sign", "decide",
        )
    },
    "POST /console/platforms/{name}/{step}": Size.FORM,
    "POST /console/simulator": Size.FORM,
    "POST /console/simulator/policy.toml": Size.FORM,
    "POST /console/staff": Size.FORM,
    "POST /console/staff/{name}/{step}": Size.FORM,
}  # fmt: skip
"""The kind of body of each route. A route without a row (every GET) has none: `Size.NONE`."""

_AUDIT = ("staff", "action", "object", "from", "to")
QUERIES: Mapping[str, tuple[str, ...]] = {
    "GET /static/{name}": ("v",),
    "GET /console/login": ("next", "lang"),
    "GET /console/queue": (
        "state", "mine", "to_sign", "due_days", "profile", "conduct", "severity", "platform", "case", "after",
        "nothing",
    ),
    "GET /console/held": ("done",),
    "GET /console/cases/{case}": ("done",),
    "GET /console/cases/{case}/letter": ("kind", "locale", "round"),
    "GET /console/cases/{case}/match": ("file", "listing"),
    "GET /console/dashboard": ("days",),
    "GET /console/dashboard/{name}.svg": ("days", "size"),
    "GET /console/audit": (*_AUDIT, "before"),
    "GET /console/audit/export.csv": _AUDIT,
    "GET /console/audit/export.jsonl": _AUDIT,
    "GET /me": ("lang",),
    "GET /me/open": ("lang",),
    "GET /me/ended": ("lang",),
    "GET /me/statement": ("report", "lang"),
    "GET /me/appeal": ("report", "grounds", "lang"),
    "GET /me/cases/{case_id}": ("do", "lang"),
    "GET /me/cases/{case_id}/filed": ("lang",),
    "GET /me/cases/{case_id}/letters/{kind}": ("round", "lang"),
}  # fmt: skip
"""Names in the query of pages. For operations of the API the names are those of their parameters."""

ENTRANCES = frozenset(
    {"GET /me", "GET /me/open", "GET /me/ended", "GET /console", "GET /console/login", "GET /console/enrol"}
)
"""Pages to which links in letters, e-mails and intranets lead. Services that forward such a link may add names of their
own (`utm_source`, `fbclid`), so these pages ignore unknown names. All other routes refuse them."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The limits of a route: its body, the names of its query (with the type of the value: `int`, `bool` or None for
    text), and whether other names are ignored."""

    body: Size = Size.NONE
    query: Mapping[str, type | None] | None = None
    """None for a route that is in no table: its query is not checked."""
    ignores_others: bool = False
    path: str | None = None
    """The template of the route's path, for the access log."""


UNKNOWN = Accepted()
"""The limits of a path without a route: the router refuses it, and its body is limited until then."""


class RouteTable:
    """Finds the limits of a request's route."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._exact: dict[str, Accepted] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Accepted]]] = {}
        for method, route in named_routes(routes):
            accepted = _accepted(f"{method} {route.path}", route)
            if "{" not in route.path:
                self._exact[f"{method} {route.path}"] = accepted
                continue
            pattern, _, _ = compile_path(route.path)
            self._patterns.setdefault((method, _area(route.path)), []).append((pattern, accepted))

    def find(self, method: str, path: str) -> Accepted:
        """Return the limits of the first route of this method and path, `UNKNOWN` if there is none."""
        exact = self._exact.get(f"{method} {path}")
        if exact is not None:
            return exact
        area = _area(path)
        for key in ((method, area), (method, area.partition("/")[0])):
            for pattern, accepted in self._patterns.get(key, ()):
                if pattern.match(path):
                    return accepted
        return UNKNOWN


def named_routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, APIRoute]]:
    """Return (method, route) of every route of the application, including those of included routers."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from named_routes(included.routes)
        elif isinstance(route, APIRoute):
            for method in sorted(route.methods or ()):
                yield method, route


def _area(path: str) -> str:
    """Return the first two parts of a path, by which the patterns of a method are grouped: few share one. For a
    template whose second part is a parameter, return the first part."""
    parts = path.split("/", 3)
    return "/".join(parts[1:2] if parts[2:] and parts[2].startswith("{") else parts[1:3])


def _accepted(name: str, route: APIRoute) -> Accepted:
    query: dict[str, type | None] = dict.fromkeys(QUERIES.get(name, ()))
    for part in _parts(route.dependant):
        for field in part.query_params:
            query[field.alias] = _form(field.field_info.annotation)
    return Accepted(BODIES.get(name, Size.NONE), query, name in ENTRANCES, route.path)


def _parts(dependant: Dependant) -> Iterator[Dependant]:
    """Return a route's parameters and those of its dependencies."""
    yield dependant
    for dependency in dependant.dependencies:
        yield from _parts(dependency)


def _form(annotation: Any) -> type | None:
    members = get_args(annotation) or (annotation,)
    return next((kind for kind in (bool, int) if kind in members), None)


def read_query(accepted: Accepted, query: bytes) -> dict[str, str]:
    """Return the names and values of a query string (`application/x-www-form-urlencoded`) that the route knows.

    Raises InvalidRequest for a name that the route does not know (a page of `ENTRANCES` ignores it), a repeated name,
    text that is not UTF-8 or has a NUL, and a value of another form than its parameter's: an integer is digits
    (`INTEGER`), a boolean `true` or `false`. The error repeats nothing of the query.
    """
    known = accepted.query
    if known is None or not query:
        return {}
    values: dict[str, str] = {}
    errors: list[dict[str, Any]] = []
    pairs = query.split(b"&", MAX_QUERY_PAIRS)
    if len(pairs) > MAX_QUERY_PAIRS:
        raise InvalidRequest(f"A query has at most {MAX_QUERY_PAIRS} parameters.")
    for pair in pairs:
        if not pair:
            continue
        raw_name, _, raw_value = pair.partition(b"=")
        name, value = _text(raw_name), _text(raw_value)
        if name is None or name not in known:
            if not accepted.ignores_others:
                errors.append({"loc": ["query", "?"], "message": "There is no such parameter."})
        elif name in values:
            errors.append({"loc": ["query", name], "message": "The parameter is there twice."})
        elif value is None:
            errors.append({"loc": ["query", name], "message": "The value is not text in UTF-8 without NUL."})
        elif not _is_of(known[name], value):
            form = "an integer in digits" if known[name] is int else "true or false"
            errors.append({"loc": ["query", name], "message": f"The value should be {form}."})
        else:
            values[name] = value
    if errors:
        raise InvalidRequest("The query does not have the documented form.", errors=errors)
    return values


def _is_of(kind: type | None, value: str) -> bool:
    if kind is int:
        return INTEGER.match(value) is not None
    return kind is None or value in ("true", "false")


def _text(raw: bytes) -> str | None:
    """Return a decoded name or value, None if it is not UTF-8 or has a NUL, which PostgreSQL cannot store."""
    try:
        text = unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
"""Characters that no path of this service has: controls, halves of surrogate pairs, and the replacement character for
bytes that are not UTF-8."""
