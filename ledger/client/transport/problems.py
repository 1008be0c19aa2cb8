"""Answers that are failures, converted to named errors (RFC 9457).

A failure counts as the ledger's own word only if it is the ledger's own problem document; whatever else comes with a
status other than 2xx was said by something in front of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ledger.errors import LedgerError, Unavailable, UnexpectedAnswer

REQUEST_ID = re.compile(r"rcl-[A-Za-z0-9_-]{22}\Z")
"""Ids of the SDK's requests; what has another form was put there by a gateway."""
_MESSAGE_CHARS = 500
_UNKEPT_FIELDS = frozenset({"type", "title", "status", "detail", "code", "self", "message"})
"""Members of a problem document that are no details of an error. `self` and `message` are arguments of an error's own:
a server that sends them must not cause another exception than the named one."""
_MAX_RETRY_SECONDS = 10**9
_PROBLEM_MEDIA_TYPE = "application/problem+json"
_PROBLEM_TYPE_PREFIX = "urn:refund-ledger:problem:"
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_PROXY_LOGIN = 407


def error_from(status: int, headers: Mapping[str, str], body: bytes, request_id: str | None) -> LedgerError:
    """Return the named error of a failed answer (RFC 9457) to the request `request_id` (None: whichever), or
    Unavailable with the reason `proxy_answer` or `proxy_failed` when it is not the ledger's. `headers` have lower-case
    names."""
    problem = _own_problem(headers, body, request_id)
    if problem is not None:
        error = error_from_problem(status, problem)
    elif status == _PROXY_LOGIN:
        error = Unavailable("The proxy wants a login.", reason="proxy_failed", status=status)
    else:
        text = f"Something in front of the ledger answered with status {status}; the ledger did not."
        error = Unavailable(text, reason="proxy_answer", status=status)
    after = headers.get("retry-after", "")
    if after.isascii() and after.isdigit():
        error.details["retry_after_seconds"] = int(after[:9])
    return error


def _own_problem(headers: Mapping[str, str], body: bytes, request_id: str | None) -> Mapping[str, Any] | None:
    """Return the ledger's own problem document in `body`; None if it is another's."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _PROBLEM_MEDIA_TYPE:
        return None
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(problem, dict):
        return None
    code, answered_id = problem.get("code"), problem.get("request_id")
    if not isinstance(code, str) or not _CODE.match(code) or problem.get("type") != _PROBLEM_TYPE_PREFIX + code:
        return None
    if not isinstance(answered_id, str) or not answered_id:
        return None
    # A gateway may have put an id of its own in the place of ours. The id of another request of an SDK is refused.
    return problem if request_id is None or answered_id == request_id or not REQUEST_ID.match(answered_id) else None


def error_from_problem(status: int, problem: Mapping[str, Any]) -> LedgerError:
    """Return the error whose `code` the problem has; an unknown code, or none, becomes Unavailable (5xx) or
    UnexpectedAnswer: only a known code refuses anything for good."""
    code, detail = problem.get("code"), problem.get("detail")
    known = _classes().get(code) if isinstance(code, str) else None
    details = {name: value for name, value in problem.items() if name not in _UNKEPT_FIELDS}
    seconds = details.get("retry_after_seconds")
    if not (type(seconds) is int and 0 <= seconds <= _MAX_RETRY_SECONDS):
        details.pop("retry_after_seconds", None)
    details["status"] = status
    message = plain(detail) if isinstance(detail, str) else ""
    if status >= 500 and (known is None or not issubclass(known, Unavailable)):
        known, details["answered_code"] = Unavailable, plain(str(code))
        message = message or f"The ledger failed with status {status}."
    elif known is None or known is LedgerError:
        known, details["answered_code"] = UnexpectedAnswer, plain(str(code))
        message = message or f"The ledger answered with status {status} and no reason."
    return known(message or f"The ledger refused with status {status}.", **details)


def plain(text: str) -> str:
    """Return `text` without what could move a terminal's cursor."""
    return "".join(char for char in text[:_MESSAGE_CHARS] if char.isprintable())


def _classes() -> dict[str, type[LedgerError]]:
    """Return every error class by its code. The first class with a code wins: a subclass without its own adds
    nothing."""
    classes: dict[str, type[LedgerError]] = {}
    level: list[type[LedgerError]] = [LedgerError]
    while level:
        for error_class in level:
            classes.setdefault(error_class.code, error_class)
        level = [sub for error_class in level for sub in error_class.__subclasses__()]
    return classes
