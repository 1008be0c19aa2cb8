"""Reading requests and writing answers: JSON bodies, idempotency keys, prebuilt bytes."""

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
"""Headers of the answer to a write with an idempotency key, as the description has them."""

MAX_ERRORS_SHOWN = 20
MAX_UNKNOWN = 8
"""Unknown members that are shown along with everything else that is wrong; a value with more is refused for them."""
MAX_LIST = 1000
"""Items of a list that are looked at for unknown members where the schema names no limit of its own."""
MAX_DETAILED = 50
"""Refused items of a batch that are told what is wrong where; further ones are told that they are wrong."""
MAX_VALUES = 100_000
"""Values (members and items) of a body. A batch of 1000 reports with two subjects and four items of evidence each has
about 65,000."""
COUNTED_BYTES = 256 * 1024
"""Bodies up to this are not counted: they have too few values to matter."""
_STRUCTURE = (b",", b"[", b"{")
_NOT_THE_FORM = "The request does not have the documented form."
_KNOWN_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_BATCH_FIELDS = frozenset({"blinded", "reports", "lookups"})


async def read_json(request: Request, most_values: int | None = None) -> Any:
    """The body as JSON. Strict UTF-8 and strict JSON: no NaN, no lone surrogates, bounded nesting.

    Of doubled keys the last one counts. That is safe here: signed bodies are put into canonical form again from what
    was parsed, so a signature is always over what this service understood.
    Raises UnsupportedMediaType, InvalidJson, BodyTooLarge, and InvalidRequest for a body of more than `most_values`
    (by default `MAX_VALUES`) values: what is put together from millions of them stalls every other request.
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
    """Whether a `Content-Type` header declares JSON in UTF-8."""
    media_type, _, parameters = declared.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    return media_type.strip().lower() == "application/json" and charset in ("", "charset=utf-8")


def parse(model: type[Model], value: object) -> Model:
    """`value` as `model`.

    Raises InvalidRequest, or BatchSizeInvalid, with what is wrong where (see `shown`). A value with more than
    `MAX_UNKNOWN` unknown members in all is refused for them alone, before anything else of it is looked at: the
    validator makes an error for each.
    """
    _check_names(model, value)
    try:
        return cast(Model, model.__pydantic_validator__.validate_python(value))
    except ValidationError as error:
        raise refusal(error.errors(include_url=False, include_context=False, include_input=False)) from error


def parse_briefly(model: type[Model], value: object) -> Model:
    """`value` as `model`, for one item of many. Raises InvalidRequest as `parse` does, without what is wrong where."""
    _check_names(model, value)
    return parse_small(model, value)


def parse_small(model: type[Model], value: object) -> Model:
    """`value` as `model`, where it was made from a few thousand bytes at most. Raises InvalidRequest without what is
    wrong where."""
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
class _Shape:
    """The names that an object may have, and what is known of the objects within it, by name: their shape, and how long
    a list of them is at most (None: it is one object)."""

    names: frozenset[str]
    within: tuple[tuple[str, _Shape, int | None], ...]


@cache
def _shape_of(model: type[BaseModel]) -> _Shape:
    within = []
    for name, field in model.model_fields.items():
        found = _model_in(field.annotation)
        if found is not None:
            limit = next((one.max_length for one in field.metadata if isinstance(one, MaxLen)), MAX_LIST)
            within.append((name, _shape_of(found[0]), limit if found[1] else None))
    return _Shape(frozenset(model.model_fields), tuple(within))


def _model_in(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The model that a member holds, and whether it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for one in get_args(annotation):
        found = _model_in(one)
        if found is not None:
            return found[0], found[1] or get_origin(annotation) is list
    return None


def _find_unknown(shape: _Shape, value: object, loc: list[str | int], unknown: list[list[str | int]]) -> None:
    """Add the places of unknown members to `unknown`, until there are more than are shown."""
    if type(value) is not dict:
        return
    if len(value) > len(shape.names) or not value.keys() <= shape.names:
        for name in value:
            if name not in shape.names:
                unknown.append([*loc, name])
                if len(unknown) > MAX_UNKNOWN:
                    return
    for name, inner, limit in shape.within:
        found = value.get(name)
        if found is None:
            continue
        if limit is None:
            _find_unknown(inner, found, [*loc, name], unknown)
        elif type(found) is list and len(found) <= limit:
            for number, one in enumerate(found):
                _find_unknown(inner, one, [*loc, name, number], unknown)
                if len(unknown) > MAX_UNKNOWN:
                    return


def refusal(errors: Sequence[Mapping[str, Any]]) -> InvalidRequest | BatchSizeInvalid:
    """The error for pydantic's `errors`: no value of the request is in it."""
    for one in errors:
        if one["type"] in ("too_long", "too_short") and len(one["loc"]) == 1 and one["loc"][0] in _BATCH_FIELDS:
            return BatchSizeInvalid("A batch holds 1 to 1000 items.")
    return InvalidRequest(_NOT_THE_FORM, errors=shown(errors))


def shown(errors: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pydantic's errors as {loc, message}. A name the client made up is not repeated unless it looks like a name:
    somebody may have put an identifier in its place."""
    return [_shown(one["loc"], one["msg"]) for one in islice(errors, MAX_ERRORS_SHOWN)]


def _shown(loc: Iterable[str | int], message: str) -> dict[str, Any]:
    named = [part if isinstance(part, int) or _KNOWN_NAME.match(part) else "?" for part in loc]
    return {"loc": named, "message": message}


def check_shape(value: object, names: frozenset[str]) -> dict[str, Any]:
    """`value` as an object with exactly these members. What is in them is checked by whoever parses them."""
    if not isinstance(value, dict) or value.keys() != names:
        wanted = ", ".join(sorted(names))
        raise InvalidRequest(f"An object with exactly these members is expected: {wanted}.")
    return value


def idempotency_key(request: Request) -> str:
    """The `Idempotency-Key` header. Raises InvalidRequest when it is missing, doubled or unfit."""
    keys = request.headers.getlist("idempotency-key")
    if len(keys) != 1:
        raise InvalidRequest("Send one Idempotency-Key header.")
    return check_key(keys[0])


def json_response(body: bytes | str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is text already."""
    return Response(body, status, headers=headers, media_type="application/json")


def answer(value: object, status: int = 200) -> Response:
    """`value` as JSON."""
    return json_response(orjson.dumps(value), status)


def stored_response(stored: StoredResponse) -> Response:
    """The stored answer of a command; a replay says that it is one."""
    headers = {"Idempotency-Replayed": "true"} if stored.replayed else None
    return json_response(stored.body, stored.status, headers)


def batch_item(status: int, name: str, body: bytes | str, **repeated: str | None) -> bytes:
    """One good result of a batch: {"status": status, name: body}, where `body` is JSON already, with what is `repeated`
    of the item between the two."""
    data = body if isinstance(body, bytes) else body.encode()
    between = orjson.dumps(repeated)[1:-1] + b"," if repeated else b""
    return b'{"status":%d,%b"%b":%b}' % (status, between, name.encode(), data)


def batch_problem(error: LedgerError, request_id: str, **repeated: str | None) -> bytes:
    """One refused result of a batch."""
    document = problem(error, request_id)
    return batch_item(document["status"], "problem", orjson.dumps(document), **repeated)


def batch_response(results: Iterable[bytes]) -> Response:
    """All results, in order."""
    return json_response(b'{"results":[' + b",".join(results) + b"]}")
