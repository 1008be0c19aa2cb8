"""The error table: which HTTP status each error of `ledger.errors` becomes, and the problem document it is sent as.

Every failure is `application/problem+json` (RFC 9457). `code` is what programs match on. An error that is not in the
table is a fault of the server: 500 `internal`, logged, and nothing about it is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from ledger import errors as e
from ledger.errors import LedgerError

PROBLEM_MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:refund-ledger:problem:"


class InvalidJson(e.InvalidInput):
    """The body is not JSON."""

    code = "invalid_json"


class UnsupportedMediaType(LedgerError):
    """The body is declared as something else than JSON."""

    code = "unsupported_media_type"


class MethodNotAllowed(LedgerError):
    """`details["allow"]` lists the methods of the path."""

    code = "method_not_allowed"


class MalformedHttp(LedgerError):
    """The request is no HTTP/1.1 as RFC 9112 has it."""

    code = "malformed_http"


class RequestTimeout(LedgerError):
    """The request did not arrive in time."""

    code = "request_timeout"


class UriTooLong(e.LimitExceeded):
    """The request's target, or its query, is too long. `details["limit_bytes"]` is the most that is read."""

    code = "uri_too_long"


class HeadersTooLarge(e.LimitExceeded):
    """The request's header fields are too large or too many."""

    code = "headers_too_large"


class RangeNotSatisfiable(LedgerError):
    """No asked range is within the file, of `details["size_bytes"]` bytes."""

    code = "range_not_satisfiable"


class TooManyConnections(e.Unavailable):
    """The server, or one address, has as many connections as it may have."""

    code = "too_many_connections"


@dataclass(frozen=True, slots=True)
class Row:
    """Status of an error, and its title: what it means whenever it occurs."""

    status: int
    title: str


TABLE: dict[type[LedgerError], Row] = {
    # The request can never succeed as it is.
    InvalidJson: Row(400, "The body is not valid JSON"),
    MalformedHttp: Row(400, "The request is not well-formed HTTP"),
    RequestTimeout: Row(408, "The request did not arrive in time"),
    UriTooLong: Row(414, "The address or its query is too long"),
    RangeNotSatisfiable: Row(416, "No asked range is within the file"),
    HeadersTooLarge: Row(431, "The header fields are too large"),
    UnsupportedMediaType: Row(415, "The body must be application/json"),
    e.BodyTooLarge: Row(413, "The body is larger than this service reads"),
    MethodNotAllowed: Row(405, "This path has no such method"),
    e.InvalidRequest: Row(422, "The request does not have the documented form"),
    e.InvalidEncoding: Row(422, "A binary value is not base64url of the right length"),
    e.InvalidCanonicalForm: Row(422, "A signed value has no canonical form"),
    e.InvalidTime: Row(422, "A time is not of the form 2026-01-31T23:59:59Z"),
    e.UnsupportedKind: Row(422, "No such kind of identifier"),
    e.InvalidPoint: Row(422, "A value is not a canonical ristretto255 element"),
    e.IdentityPoint: Row(422, "An element is the identity"),
    e.BatchSizeInvalid: Row(422, "A batch is empty or too large"),
    e.InvalidReport: Row(422, "The report does not follow the rules"),
    e.UnknownConduct: Row(422, "No such conduct code"),
    e.EvidenceInsufficient: Row(422, "The evidence falls short of the conduct's minimum"),
    e.EvidenceOriginMissing: Row(422, "An original file does not say that it was uploaded with the claim, and when"),
    e.EvidenceInvalid: Row(422, "An item of evidence is malformed"),
    e.EvidenceUntrusted: Row(422, "A finding is said to identify, and its signer is on no trust list"),
    e.EvidenceRefused: Row(422, "This type of evidence is never accepted"),
    e.NoticeInvalid: Row(422, "The notice to the person is missing or out of time"),
    e.NoticeOutdated: Row(422, "A further report of an order needs a notice of its own"),
    e.ConductNotInPolicy: Row(422, "The policy in effect does not name this conduct"),
    e.ConsentMissing: Row(422, "The profile requires a consent reference"),
    e.AlreadyExpired: Row(422, "The act is past retention"),
    e.SubjectsInvalid: Row(422, "The subjects are malformed, doubled or do not match the signed body"),
    e.CommitmentMismatch: Row(422, "An element and salt do not open the signed commitment"),
    e.InvalidSignature: Row(422, "The report's signature does not verify"),
    e.LinkedReportInvalid: Row(422, "A linked report does not carry an account_farm report"),
    e.ReplacementInvalid: Row(422, "The report that `replaces` names cannot be replaced"),
    e.RestitutionInvalid: Row(422, "The restitution does not match the report"),
    e.AppealInvalid: Row(422, "The appeal does not follow the rules"),
    e.DecisionInvalid: Row(422, "The decision does not follow the rules"),
    e.AttachmentRefused: Row(422, "The file is not accepted"),
    e.WebhookInvalid: Row(422, "The webhook endpoint is not acceptable"),
    e.PictureUnfit: Row(422, "The hash is of a picture too flat to be found again"),
    e.StaffInvalid: Row(422, "The account does not follow the rules"),
    e.LinkInvalid: Row(422, "The enrolment link does not work (any more)"),
    # Who asks.
    e.Unauthenticated: Row(401, "A bearer token is required"),
    e.InvalidToken: Row(401, "The token is not acceptable"),
    e.TokenExpired: Row(401, "The token has expired"),
    e.UnknownKey: Row(401, "The token's key is unknown or revoked"),
    e.LoginRefused: Row(401, "Name, password or code is wrong, or the account is locked"),
    e.SessionExpired: Row(401, "The session has ended"),
    e.ScopeMissing: Row(403, "The scope for this is missing"),
    e.PlatformSuspended: Row(403, "The platform is suspended"),
    e.RoleMissing: Row(403, "This role may not do that"),
    e.ConflictOfInterest: Row(403, "Somebody else has to work on this case"),
    e.CrossSite: Row(403, "The form was sent from another site"),
    # What the ledger holds.
    e.NotFound: Row(404, "There is no such thing here"),
    e.SnapshotUnknown: Row(404, "No such snapshot is served any more"),
    e.OrderAlreadyReported: Row(409, "The order has a live report already"),
    e.OrderDecided: Row(409, "The order takes no further report"),
    e.ReportDisputed: Row(409, "The person contests the report"),
    e.AlreadyReversed: Row(409, "The report was taken back before"),
    e.AlreadyRestituted: Row(409, "Restitution was recorded before"),
    e.IdempotencyMismatch: Row(409, "The idempotency key was used for a different request"),
    e.StaleEpoch: Row(409, "The key epoch is not the current one"),
    e.CaseExists: Row(409, "There is a case about this report already"),
    e.StaffChanged: Row(409, "The account was changed meanwhile"),
    e.CaseTaken: Row(409, "Another reviewer has this case in hand"),
    e.ActionRefused: Row(409, "The state of the case does not allow this"),
    # It may work later, unchanged.
    e.TooManyAttempts: Row(429, "Too many attempts"),
    e.QuotaExceeded: Row(429, "A quota of this platform is used up"),
    e.ReceiptPending: Row(202, "No checkpoint covers the report yet"),
    TooManyConnections: Row(503, "The server has as many connections as it may have"),
    e.Unavailable: Row(503, "The service cannot do this now"),
    e.LogFrozen: Row(503, "The log is frozen: reads go on, writes are refused"),
    e.DatabaseUnavailable: Row(503, "The database cannot be reached"),
    e.Overloaded: Row(503, "Too many requests are waiting"),
    e.IndexNotReached: Row(503, "The requested log index has not been reached"),
    e.PolicyUnreadable: Row(503, "The server cannot read the policy in effect"),
}
INTERNAL = Row(500, "The server failed")


def problem(error: LedgerError, request_id: str) -> dict[str, Any]:
    """The problem document of an error; its `details` become extension members. An error that is not in the table
    becomes `internal`, and says nothing about itself."""
    row = TABLE.get(type(error))
    if row is None:
        return _internal(request_id)
    document: dict[str, Any] = {key: value for key, value in error.details.items() if key not in _NOT_SHOWN}
    document.update(
        type=TYPE_PREFIX + error.code,
        title=row.title,
        status=row.status,
        detail=str(error),
        code=error.code,
        request_id=request_id,
    )
    return document


_NOT_SHOWN = frozenset({"retry_after_seconds", "allow", "scope", "size_bytes"})
"""Details that are sent as headers."""


def problem_response(error: LedgerError, request_id: str) -> Response:
    """The answer for an error in the table, with the headers its status calls for."""
    body = orjson.dumps(problem(error, request_id))
    return Response(body, TABLE[type(error)].status, headers=_headers(error), media_type=PROBLEM_MEDIA_TYPE)


def internal_response(request_id: str) -> Response:
    """The answer for a fault of the server."""
    return Response(orjson.dumps(_internal(request_id)), INTERNAL.status, media_type=PROBLEM_MEDIA_TYPE)


def _internal(request_id: str) -> dict[str, Any]:
    return {
        "type": TYPE_PREFIX + LedgerError.code,
        "title": INTERNAL.title,
        "status": INTERNAL.status,
        "detail": "The server failed. The request id finds the cause in its log.",
        "code": LedgerError.code,
        "request_id": request_id,
    }


def _headers(error: LedgerError) -> dict[str, str]:
    status = TABLE[type(error)].status
    if status == 401:  # RFC 6750 section 3: no error code when no token was sent
        return {"WWW-Authenticate": "Bearer" if type(error) is e.Unauthenticated else 'Bearer error="invalid_token"'}
    if isinstance(error, e.ScopeMissing):
        return {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{error.details["scope"]}"'}
    if status in (202, 429, 503):
        return {"Retry-After": str(error.details.get("retry_after_seconds", 1))}
    if status == 405:
        return {"Allow": str(error.details["allow"])}
    if status == 416:
        return {"Content-Range": f"bytes */{error.details.get('size_bytes', '*')}"}
    return {}
