"""The OpenAPI 3.1 description. Routes answer prebuilt bytes and parse their own bodies, so each declares its request
and answers here; `tests/api` compares the description with real answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from api.common_schemas import Problem
from api.errors import (
    INTERNAL,
    PROBLEM_MEDIA_TYPE,
    TABLE,
    TYPE_PREFIX,
    InvalidJson,
    UnsupportedMediaType,
)
from api.platform.webhook_event_schemas import webhook_schemas, webhook_section
from ledger import errors as e
from ledger.errors import LedgerError

REF = "#/components/schemas/{model}"
SECURITY_SCHEME = "token"
SUBJECT_SCHEME = "subject"

AUTH_ERRORS: tuple[type[LedgerError], ...] = (
    e.Unauthenticated,
    e.InvalidToken,
    e.TokenExpired,
    e.UnknownKey,
    e.ScopeMissing,
    e.PlatformSuspended,
    e.DatabaseUnavailable,
    e.PolicyUnreadable,
)
SUBJECT_ERRORS: tuple[type[LedgerError], ...] = (
    e.Unauthenticated,
    e.SessionExpired,
    e.DatabaseUnavailable,
    e.PolicyUnreadable,
)
"""Errors of a request in a person's own session."""

BODY_ERRORS: tuple[type[LedgerError], ...] = (
    InvalidJson,
    UnsupportedMediaType,
    e.BodyTooLarge,
    e.InvalidRequest,
)
UPLOAD_ERRORS: tuple[type[LedgerError], ...] = (e.BodyTooLarge, e.InvalidRequest)
_ANY_FILE = "application/octet-stream"
WRITE_ERRORS: tuple[type[LedgerError], ...] = (
    e.IdempotencyMismatch,
    e.LogFrozen,
    e.Overloaded,
    e.Unavailable,
)
"""Errors of every command that writes to the log."""

REPORT_ERRORS: tuple[type[LedgerError], ...] = (
    e.InvalidEncoding,
    e.InvalidCanonicalForm,
    e.InvalidTime,
    e.UnsupportedKind,
    e.InvalidPoint,
    e.IdentityPoint,
    e.InvalidReport,
    e.UnknownConduct,
    e.EvidenceInsufficient,
    e.EvidenceOriginMissing,
    e.EvidenceUntrusted,
    e.EvidenceInvalid,
    e.EvidenceRefused,
    e.NoticeInvalid,
    e.NoticeOutdated,
    e.ConductNotInPolicy,
    e.ConsentMissing,
    e.AlreadyExpired,
    e.SubjectsInvalid,
    e.CommitmentMismatch,
    e.InvalidSignature,
    e.LinkedReportInvalid,
    e.ReplacementInvalid,
    e.OrderAlreadyReported,
    e.OrderDecided,
    e.ReportDisputed,
    e.StaleEpoch,
)
LOOKUP_ERRORS: tuple[type[LedgerError], ...] = (e.ConsentMissing, e.StaleEpoch, e.IndexNotReached)

_HEADERS = {
    "X-Request-Id": {
        "description": "The request's id, as the client sent it or as made by the service.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    }
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
_WWW_AUTHENTICATE = {"WWW-Authenticate": {"description": "RFC 6750.", "schema": {"type": "string"}}}

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": (
        "Made by the client, one for each thing to be done, and sent again with every retry. Kept 24 hours: the same "
        "request gets the stored answer, another one gets 409 `idempotency_mismatch`."
    ),
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


@dataclass(frozen=True, slots=True)
class Success:
    """A successful answer: its meaning, its model or (with another `media_type`) its format, `also` further media
    types, and its own headers. With an empty `media_type` it has no body."""

    description: str
    model: type[BaseModel] | None = None
    media_type: str = "application/json"
    binary: bool = False
    headers: Mapping[str, Any] | None = None
    also: tuple[str, ...] = ()


def operation(
    operation_id: str,
    summary: str,
    tag: str,
    answers: Mapping[int, Success],
    *,
    scopes: tuple[str, ...] = (),
    status: int | None = None,
    body: type[BaseModel] | None = None,
    upload: bool = False,
    example: object = None,
    idempotent: bool = False,
    subject: bool = False,
    raises: tuple[type[LedgerError], ...] = (),
) -> dict[str, Any]:
    """Return the arguments of a route's decorator. The token must have one of `scopes` (none: no token), `body` is the
    request's model, `upload` is set if the body is a file, `status` is the usual one of several successful `answers`,
    `subject` is set if the token is that of a person's own session, `raises` has the errors beyond those of tokens and
    bodies."""
    errors = AUTH_ERRORS if scopes else SUBJECT_ERRORS if subject else ()
    errors += (BODY_ERRORS if body else UPLOAD_ERRORS if upload else ()) + raises
    extra: dict[str, Any] = {"security": [{SECURITY_SCHEME: [scope]} for scope in scopes]}
    if subject:
        extra["security"] = [{SUBJECT_SCHEME: []}]
    if body is not None:
        content: dict[str, Any] = {"schema": {"$ref": REF.format(model=body.__name__)}}
        if example is not None:
            content["example"] = example
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
        _MODELS.add(body)
    if upload:
        anything = {"schema": {"type": "string", "contentMediaType": _ANY_FILE}}
        extra["requestBody"] = {"required": True, "content": {_ANY_FILE: anything}}
    if idempotent:
        extra["parameters"] = [_IDEMPOTENCY_KEY]
    responses: dict[int | str, Any] = {status: _good(answer) for status, answer in answers.items()}
    responses.update(_problems(errors))
    return {
        "operation_id": operation_id,
        "summary": summary,
        "tags": [tag],
        "status_code": status or min(answers),
        "response_class": Response,
        "response_model": None,
        "responses": responses,
        "openapi_extra": extra,
    }


_MODELS: set[type[BaseModel]] = {Problem}


def _good(answer: Success) -> dict[str, Any]:
    if answer.model is not None:
        _MODELS.add(answer.model)
    media_types = dict.fromkeys((answer.media_type, *answer.also)) if answer.media_type else {}
    return {
        "description": answer.description,
        "content": {media_type: {"schema": _schema(answer, media_type)} for media_type in media_types},
        "headers": {**_HEADERS, **(answer.headers or {})},
    }


def _schema(answer: Success, media_type: str) -> dict[str, Any]:
    if answer.model is not None:
        return {"$ref": REF.format(model=answer.model.__name__)}
    return {"type": "string", "contentMediaType": media_type} if answer.binary else {"type": "string"}


def _problems(errors: tuple[type[LedgerError], ...]) -> dict[int | str, Any]:
    by_status: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for error in dict.fromkeys(errors):
        row = TABLE[error]
        by_status[row.status].append((error.code, row.title))
    by_status[INTERNAL.status].append((LedgerError.code, INTERNAL.title))
    return {status: _problem(status, codes) for status, codes in sorted(by_status.items())}


def _problem(status: int, codes: list[tuple[str, str]]) -> dict[str, Any]:
    headers: dict[str, Any] = dict(_HEADERS)
    if status in (202, 429, 503):
        headers.update(_RETRY_AFTER)
    if status == 401:
        headers.update(_WWW_AUTHENTICATE)
    return {
        "description": "; ".join(f"`{code}`: {title}" for code, title in codes),
        "headers": headers,
        "content": {
            PROBLEM_MEDIA_TYPE: {
                "schema": {"$ref": REF.format(model="Problem")},
                "examples": {code: {"value": _example(status, code, title)} for code, title in codes},
            }
        },
    }


def _example(status: int, code: str, title: str) -> dict[str, Any]:
    return {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": f"{title}.",
        "code": code,
        "request_id": "3f9b2c7d1a",
    }


def install(app: FastAPI) -> None:
    """Make `app.openapi()` return the whole description."""

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    app.openapi = describe  # type: ignore[method-assign]


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
        license_info=app.license_info,
    )
    # The framework adds a validation error of its own form to every operation with a parameter. Operations that can
    # refuse a parameter list their errors already; the others have text parameters, which are never invalid.
    for methods in document["paths"].values():
        for described in methods.values():
            if "application/json" in described["responses"].get("422", {}).get("content", {}):
                del described["responses"]["422"]
    models = sorted(_MODELS, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    components = document.setdefault("components", {})
    document["webhooks"] = webhook_section()
    components["schemas"] = dict(sorted({**schemas["$defs"], **webhook_schemas()}.items()))
    for schema in components["schemas"].values():
        for member in schema.get("properties", {}).values():
            member.pop("default", None)  # an optional member may be absent; it has no default
    components["securitySchemes"] = {
        SECURITY_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": (
                "A JWT that the platform signs itself: EdDSA, header `kid`, claims `iss` (the platform), `aud` (the "
                "service id), `iat`, `exp` (at most 900 s later), and optionally `scope` to narrow what it may do."
            ),
        },
        SUBJECT_SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": (
                "The token of a person's own session, as `POST /v1/me/session` gives it for the code of a link that "
                "their platform had made. It is good for minutes and for that person's record only."
            ),
        },
    }
    return document
