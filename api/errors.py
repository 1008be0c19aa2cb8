"""The error table: the HTTP status and the problem document of each error of `ledger.errors`.

Every failure is `application/problem+json` (RFC 9457). Programs match on `code`. An error that is not in the table is
an internal error: 500 `internal`, logged, and nothing about it is sent.
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
    """The body is declared as another media type than JSON."""

    code = "unsupported_media_type"


class MethodNotAllowed(LedgerError):
    """`details["allow"]` lists the methods of the path."""

    code = "method_not_allowed"


class MalformedHttp(LedgerError):
    """The request is not HTTP/1.1 (RFC 9112)."""

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
    """No requested range is within the file, which has `details["size_bytes"]` bytes."""

    code = "range_not_satisfiable"


class TooManyConnections(e.Unavailable):
    """The server, or one address, has reached its limit of connections."""

    code = "too_many_connections"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Status of an error, and its title, which is the same for every occurrence."""

    status: int
    title: str


TABLE: dict[type[LedgerError], ErrorRow] = {
    # The request can never succeed unchanged.
    InvalidJson: ErrorRow(400, "The body is not valid JSON"),
    MalformedHttp: ErrorRow(400, "The request is not well-formed HTTP"),
    RequestTimeout: ErrorRow(408, "The request did not arrive in time"),
    UriTooLong: ErrorRow(414, "The address or its query is too long"),
    RangeNotSatisfiable: ErrorRow(416, "No asked range is within the file"),
    HeadersTooLarge: ErrorRow(431, "The header fields are too large"),
    UnsupportedMediaType: ErrorRow(415, "The body must be application/json"),
    e.BodyTooLarge: ErrorRow(413, "The body is larger than this service reads"),
    MethodNotAllowed: ErrorRow(405, "This path has no such method"),
    e.InvalidRequest: ErrorRow(422, "The request does not have the documented form"),
    e.InvalidEncoding: ErrorRow(422, "A binary value is not base64url of the right length"),
    e.InvalidCanonicalForm: ErrorRow(422, "A signed value has no canonical form"),
    e.InvalidTime: ErrorRow(422, "A time is not of the form 2026-01-31T23:59:59Z"),
    e.UnsupportedKind: ErrorRow(422, "No such kind of identifier"),
    e.InvalidPoint: ErrorRow(422, "A value is not a canonical ristretto255 element"),
    e.IdentityPoint: ErrorRow(422, "An element is the identity"),
    e.InvalidPublicKey: ErrorRow(422, "A public key is not a sound Ed25519 key"),
    e.BatchSizeInvalid: ErrorRow(422, "A batch is empty or too large"),
    e.InvalidReport: ErrorRow(422, "The report does not follow the rules"),
    e.UnknownConduct: ErrorRow(422, "No such conduct code"),
    e.EvidenceInsufficient: ErrorRow(422, "The evidence falls short of the conduct's minimum"),
    e.EvidenceOriginMissing: ErrorRow(
        422, "An original file does not say that it was uploaded with the claim, and when"
    ),
    e.EvidenceInvalid: ErrorRow(422, "An item of evidence is malformed"),
    e.EvidenceUntrusted: ErrorRow(422, "A finding is said to identify, and its signer is on no trust list"),
    e.EvidenceRefused: ErrorRow(422, "This type of evidence is never accepted"),
    e.NoticeInvalid: ErrorRow(422, "The notice to the person is missing or out of time"),
    e.NoticeOutdated: ErrorRow(422, "A further report of an order needs a notice of its own"),
    e.ConductNotInPolicy: ErrorRow(422, "The policy in effect does not name this conduct"),
    e.ConsentMissing: ErrorRow(422, "The profile requires a consent reference"),
    e.AlreadyExpired: ErrorRow(422, "The act is past retention"),
    e.SubjectsInvalid: ErrorRow(422, "The subjects are malformed, doubled or do not match the signed body"),
    e.CommitmentMismatch: ErrorRow(422, "An element and salt do not open the signed commitment"),
    e.InvalidSignature: ErrorRow(422, "The report's signature does not verify"),
    e.LinkedReportInvalid: ErrorRow(422, "A linked report does not carry an account_farm report"),
    e.ReplacementInvalid: ErrorRow(422, "The report that `replaces` names cannot be replaced"),
    e.RestitutionInvalid: ErrorRow(422, "The restitution does not match the report"),
    e.AppealInvalid: ErrorRow(422, "The appeal does not follow the rules"),
    e.DecisionInvalid: ErrorRow(422, "The decision does not follow the rules"),
    e.AttachmentRefused: ErrorRow(422, "The file is not accepted"),
    e.WebhookInvalid: ErrorRow(422, "The webhook endpoint is not acceptable"),
    e.PictureUnfit: ErrorRow(422, "The hash is of a picture too flat to be found again"),
    e.StaffInvalid: ErrorRow(422, "The account does not follow the rules"),
    e.LinkInvalid: ErrorRow(422, "The enrolment link does not work (any more)"),
    # Authentication and authorisation.
    e.Unauthenticated: ErrorRow(401, "A bearer token is required"),
    e.InvalidToken: ErrorRow(401, "The token is not acceptable"),
    e.TokenExpired: ErrorRow(401, "The token has expired"),
    e.TokenUsed: ErrorRow(401, "The token was used before"),
    e.UnknownKey: ErrorRow(401, "The token's key is unknown or revoked"),
    e.LoginRefused: ErrorRow(401, "Name, password or code is wrong, or the account is locked"),
    e.SessionExpired: ErrorRow(401, "The session has ended"),
    e.ScopeMissing: ErrorRow(403, "The scope for this is missing"),
    e.PlatformSuspended: ErrorRow(403, "The platform is suspended"),
    e.NotAdmitted: ErrorRow(403, "The key holder has not admitted the platform"),
    e.RoleMissing: ErrorRow(403, "This role may not do that"),
    e.ConflictOfInterest: ErrorRow(403, "Somebody else has to work on this case"),
    e.CrossSite: ErrorRow(403, "The form was sent from another site"),
    # The state of the ledger.
    e.NotFound: ErrorRow(404, "There is no such thing here"),
    e.SnapshotUnknown: ErrorRow(404, "No such snapshot is served any more"),
    e.OrderAlreadyReported: ErrorRow(409, "The order has a live report already"),
    e.OrderDecided: ErrorRow(409, "The order takes no further report"),
    e.ReportDisputed: ErrorRow(409, "The person contests the report"),
    e.AlreadyReversed: ErrorRow(409, "The report was taken back before"),
    e.AlreadyRestituted: ErrorRow(409, "Restitution was recorded before"),
    e.IdempotencyMismatch: ErrorRow(409, "The idempotency key was used for a different request"),
    e.StaleEpoch: ErrorRow(409, "The key epoch is not the current one"),
    e.StaleGeneration: ErrorRow(409, "The generation of the key is not in use"),
    e.EvaluatedByHolders: ErrorRow(409, "Independent key holders evaluate"),
    e.AlreadyExists: ErrorRow(409, "There is such a thing already"),
    e.CaseExists: ErrorRow(409, "There is a case about this report already"),
    e.StaffChanged: ErrorRow(409, "The account was changed meanwhile"),
    e.CaseTaken: ErrorRow(409, "Another reviewer has this case in hand"),
    e.ActionRefused: ErrorRow(409, "The state of the case does not allow this"),
    # The same request may succeed later.
    e.TooManyAttempts: ErrorRow(429, "Too many attempts"),
    e.QuotaExceeded: ErrorRow(429, "A quota of this platform is used up"),
    e.ReceiptPending: ErrorRow(202, "No checkpoint covers the report yet"),
    TooManyConnections: ErrorRow(503, "The server has as many connections as it may have"),
    e.Unavailable: ErrorRow(503, "The service cannot do this now"),
    e.LogFrozen: ErrorRow(503, "The log is frozen: reads go on, writes are refused"),
    e.DatabaseUnavailable: ErrorRow(503, "The database cannot be reached"),
    e.Overloaded: ErrorRow(503, "Too many requests are waiting"),
    e.IndexNotReached: ErrorRow(503, "The requested log index has not been reached"),
    e.PolicyUnreadable: ErrorRow(503, "The server cannot read the policy in effect"),
}
INTERNAL = ErrorRow(500, "The server failed")


def problem(error: LedgerError, request_id: str) -> dict[str, Any]:
    """Return the problem document of an error; its `details` become extension members. An error that is not in the
    table becomes `internal`, without its text."""
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
    """Return the answer for an error of the table, with the headers of its status."""
    body = orjson.dumps(problem(error, request_id))
    return Response(body, TABLE[type(error)].status, headers=_headers(error), media_type=PROBLEM_MEDIA_TYPE)


def internal_response(request_id: str) -> Response:
    """Return the answer for an internal error (500)."""
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
