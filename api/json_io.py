"""Functions that read requests and write answers: JSON bodies, idempotency keys, prebuilt bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, TypeVar, cast, get_args, get_origin

import orjson
from annotated_types import MaxLen
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from api.errors import InvalidJson, UnsupportedMediaType, problem
from ledger.errors import BatchSizeInvalid, InvalidRequest, LedgerError
from ledger.server.records.idempotency import StoredResponse, check_key

Model = TypeVar("Model", bound=BaseModel)

REPLAYED: Mapping[str, Any] = {
    "Idempotency-Key": {
        "description": "The request's own key: compare it, and you know the answer for that to your request.",
        "schema": {"type": "string"},
    },
    "Idempotency-Replayed": {
        "description": "`true` when this is the stored answer of an earlier request.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
"""Headers of the answer to a write with an idempotency key, for the OpenAPI description."""

MAX_ERRORS_SHOWN = 20
MAX_UNKNOWN = 8
"""Unknown members that are shown along with the other faults; a value with more is refused for them alone."""
MAX_LIST = 1000
"""Items of a list that are searched for unknown members if the schema has no limit."""
MAX_DETAILED = 50
"""Refused items of a batch whose results list the faults; results of further ones have no list."""
MAX_VALUES = 100_000
"""Values (members and items) of a body, at most. A batch of 1000 reports with two subjects and four items of evidence
each has about 65,000."""
COUNTED_BYTES = 256 * 1024
"""Values are not counted in bodies up to this length in bytes."""
_STRUCTURE = (b",", b"[", b"{")
_NOT_THE_FORM = "The request does not have the documented form."
_KNOWN_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_BATCH_FIELDS = frozenset({"blinded", "reports", "lookups"})


async def read_json(request: Request, most_values: int | None = None) -> Any:
    """Return the parsed body. Strict UTF-8 and strict JSON: no NaN, no lone surrogates, bounded nesting.

    The last of repeated keys counts. That is safe here: the canonical form of signed bodies is computed from the parsed
    value, so a signature always covers the value that this service uses. Raises UnsupportedMediaType, InvalidJson,
    BodyTooLarge, and InvalidRequest for a body of more than `most_values` (by default `MAX_VALUES`) values: parsing
    millions of them would stall all other requests.
    """
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedMediaType("Send the body as application/json in UTF-8.")
    body = await request.body()
    most = MAX_VALUES if most_values is None else most_values
    if len(body) > COUNTED_BYTES and sum(map(body.count, _STRUCTURE)) > most:
        raise InvalidRequest(f"A body has at most {most} values.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJson("The body is not valid JSON in UTF-8.") from error


def is_json(declared: str) -> bool:
    """True if a `Content-Type` header declares JSON in UTF-8."""
    media_type, _, parameters = declared.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    return media_type.strip().lower() == "application/json" and charset in ("", "charset=utf-8")


def parse(model: type[Model], value: object) -> Model:
    """Return `value` as `model`.

    Raises InvalidRequest, or BatchSizeInvalid, with the place of each fault (see `shown`). A value with more than
    `MAX_UNKNOWN` unknown members in all is refused for them alone, before any other check: the validator creates an
    error for each.
    """
    _check_names(model, value)
    try:
        return cast(Model, model.__pydantic_validator__.validate_python(value))
    except ValidationError as error:
        raise refusal(error.errors(include_url=False, include_context=False, include_input=False)) from error


def parse_briefly(model: type[Model], value: object) -> Model:
    """Return `value` as `model`, for one item of many. Raises InvalidRequest as `parse` does, without the places of
    faults."""
    _check_names(model, value)
    return parse_small(model, value)


def parse_small(model: type[Model], value: object) -> Model:
    """Return `value`, parsed from a few thousand bytes at most, as `model`. Raises InvalidRequest without the places of
    faults."""
    try:
        return cast(Model, model.__pydantic_validator__.validate_python(value))
    except ValidationError:
        raise InvalidRequest(_NOT_THE_FORM) from None


def _check_names(model: type[BaseModel], value: object) -> None:
    unknown: list[list[str | int]] = []
    _find_unknown(_shape_of(model), value, [], unknown)
    if len(unknown) > MAX_UNKNOWN:
        raise InvalidRequest(_NOT_THE_FORM, errors=[_shown(loc, "There is no such member.") for loc in unknown])


@dataclass(frozen=True, slots=True)
class _ObjectShape:
    """The member names of an object, and for each member that is an object or a list of objects: its shape, and the
    largest length of the list (None for one object)."""

    names: frozenset[str]
    within: tuple[tuple[str, _ObjectShape, int | None], ...]


@cache
def _shape_of(model: type[BaseModel]) -> _ObjectShape:
    within = []
    for name, field in model.model_fields.items():
        nested = _model_in(field.annotation)
        if nested is not None:
            limit = next(
                (constraint.max_length for constraint in field.metadata if isinstance(constraint, MaxLen)), MAX_LIST
            )
            within.append((name, _shape_of(nested[0]), limit if nested[1] else None))
    return _ObjectShape(frozenset(model.model_fields), tuple(within))


def _model_in(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """Return the model of a member, and whether it is a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        nested = _model_in(argument)
        if nested is not None:
            return nested[0], nested[1] or get_origin(annotation) is list
    return None


def _find_unknown(shape: _ObjectShape, value: object, loc: list[str | int], unknown: list[list[str | int]]) -> None:
    """Add the places of unknown members to `unknown`, until there are more than can be shown."""
    if type(value) is not dict:
        return
    if len(value) > len(shape.names) or not value.keys() <= shape.names:
        for name in value:
            if name not in shape.names:
                unknown.append([*loc, name])
                if len(unknown) > MAX_UNKNOWN:
                    return
    for name, inner, limit in shape.within:
        content = value.get(name)
        if content is None:
            continue
        if limit is None:
            _find_unknown(inner, content, [*loc, name], unknown)
        elif type(content) is list and len(content) <= limit:
            for number, item in enumerate(content):
                _find_unknown(inner, item, [*loc, name, number], unknown)
                if len(unknown) > MAX_UNKNOWN:
                    return


def refusal(errors: Sequence[Mapping[str, Any]]) -> InvalidRequest | BatchSizeInvalid:
    """Return the error for pydantic's `errors`, without any value of the request."""
    for error in errors:
        if error["type"] in ("too_long", "too_short") and len(error["loc"]) == 1 and error["loc"][0] in _BATCH_FIELDS:
            return BatchSizeInvalid("A batch holds 1 to 1000 items.")
    return InvalidRequest(_NOT_THE_FORM, errors=shown(errors))


def shown(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return pydantic's errors as {loc, message}. An unknown name is repeated only if it looks like a member's name: a
    client may have sent an identifier in its place."""
    return [_shown(error["loc"], error["msg"]) for error in islice(errors, MAX_ERRORS_SHOWN)]


def _shown(loc: Iterable[str | int], message: str) -> dict[str, Any]:
    named = [part if isinstance(part, int) or _KNOWN_NAME.match(part) else "?" for part in loc]
    return {"loc": named, "message": message}


def check_shape(value: object, names: frozenset[str]) -> dict[str, Any]:
    """Return `value` as an object with exactly these members. The caller checks their content. Raises
    InvalidRequest."""
    if not isinstance(value, dict) or value.keys() != names:
        expected = ", ".join(sorted(names))
        raise InvalidRequest(f"An object with exactly these members is expected: {expected}.")
    return value


def idempotency_key(request: Request) -> str:
    """Return the `Idempotency-Key` header. Raises InvalidRequest if it is missing, repeated or malformed."""
    keys = request.headers.getlist("idempotency-key")
    if len(keys) != 1:
        raise InvalidRequest("Send one Idempotency-Key header.")
    return check_key(keys[0])


def json_response(body: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer with JSON that is text already."""
    return Response(body, status, headers=headers, media_type="application/json")


def answer(value: object, status: int = 200) -> Response:
    """Return an answer with `value` as JSON."""
    return json_response(orjson.dumps(value), status)


def stored_response(stored: StoredResponse) -> Response:
    """Return the stored answer of a command; a header marks a replay."""
    headers = {"Idempotency-Replayed": "true"} if stored.replayed else None
    return json_response(stored.body, stored.status, headers)


def batch_item(status: int, name: str, body: bytes | str, **repeated: str | None) -> bytes:
    """Return one successful result of a batch: {"status": status, name: body}, where `body` is JSON already, with the
    `repeated` members of the item between the two."""
    data = body if isinstance(body, bytes) else body.encode()
    between = orjson.dumps(repeated)[1:-1] + b"," if repeated else b""
    return b'{"status":%d,%b"%b":%b}' % (status, between, name.encode(), data)


def batch_problem(error: LedgerError, request_id: str, **repeated: str | None) -> bytes:
    """Return one refused result of a batch."""
    document = problem(error, request_id)
    return batch_item(document["status"], "problem", orjson.dumps(document), **repeated)


def batch_response(results: Iterable[bytes]) -> Response:
    """Return the answer with all results, in order."""
    return json_response(b'{"results":[' + b",".join(results) + b"]}")
