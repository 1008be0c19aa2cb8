"""Every error of the ledger, in one tree. This module is independent of HTTP: `api/errors.py` maps classes to statuses.

    LedgerError
     +-- InvalidInput            the request can never succeed unchanged
     |    +-- InvalidEncoding, InvalidCanonicalForm, InvalidTime
     |    +-- InvalidIdentifier  InvalidPhone, InvalidEmail, InvalidCnId, InvalidPayment, InvalidDevice,
     |    |                      UnsupportedKind
     |    +-- InvalidPoint       IdentityPoint
     |    +-- InvalidScalar, InvalidPublicKey, BatchSizeInvalid
     |    +-- InvalidReport      UnknownConduct, EvidenceInsufficient (EvidenceOriginMissing), EvidenceInvalid
     |    |                      (EvidenceUntrusted), EvidenceRefused, NoticeInvalid, NoticeOutdated, ConsentMissing,
     |    |                      ConductNotInPolicy, AlreadyExpired, SubjectsInvalid, CommitmentMismatch,
     |    |                      LinkedReportInvalid, ReplacementInvalid, RestitutionInvalid
     |    +-- InvalidRequest     InvalidTable
     |    +-- PolicyInvalid      PolicyTimeInvalid
     |    +-- AppealInvalid, DecisionInvalid, AttachmentRefused, WebhookInvalid, StaffInvalid, LinkInvalid
     |    +-- InspectionInvalid  EvidenceUnreadable, EvidenceTooLarge, EvidenceFormatUnknown, EvidenceMalformed,
     |    |                      InspectionReceiptInvalid, ListingUnreadable
     |    +-- PictureUnfit, PictureUnreadable, InspectionMismatch
     +-- ProofError              a cryptographic claim of the log or of a peer is false
     |    +-- InvalidProof       the DLEQ proof of an evaluation
     |    +-- HolderMismatch     a key holder is missing, repeated or unknown
     |    +-- CeremonyFault      a message in a key ceremony is false: CeremonyMismatch
     |    +-- InvalidCiphertext
     |    +-- InvalidSignature, InvalidCheckpoint, InvalidInclusion, InvalidTile, InvalidLeaf, InvalidReceipt
     |    +-- InvalidManifest, InvalidFilter, InvalidBucket, InvalidRotation
     |    +-- SnapshotExpired, SnapshotStale, NewerFormat
     |    +-- AnswerMismatch     an answer belongs to another request
     |    +-- Inconsistent       Equivocation
     +-- Unauthenticated         InvalidToken, TokenExpired, TokenUsed, UnknownKey, LoginRefused, SessionExpired
     +-- Forbidden               ScopeMissing, PlatformSuspended, NotAdmitted, RoleMissing, ConflictOfInterest,
     |                           CrossSite
     +-- NotFound                SnapshotUnknown
     +-- Conflict                OrderAlreadyReported, OrderDecided, ReportDisputed, AlreadyReversed,
     |                           AlreadyRestituted, IdempotencyMismatch,
     |                           StaleEpoch, StaleGeneration, EvaluatedByHolders, AlreadyExists, RotationRefused,
     |                           CaseExists, CaseTaken, ActionRefused,
     |                           ReportNotReferable, StaffChanged, PolicyAlreadyPublished, PolicyVersionNotNext,
     |                           PolicyOvertaken
     +-- LimitExceeded           QuotaExceeded, BodyTooLarge, TooManyAttempts
     +-- Unavailable             LogFrozen, DatabaseUnavailable, Overloaded, IndexNotReached, ReceiptPending,
     |                           PolicyUnreadable
     +-- UnexpectedAnswer        the service answered in a form that this version cannot read
     +-- ConfigurationError      a setting, file or environment that the operator or integrator must correct

`code` is stable: programs compare it, and `docs/api.md` lists it. `str(error)` is one plain sentence for people; it
never contains an identifier, element, tag, token or secret.
"""

from __future__ import annotations

from typing import ClassVar


class LedgerError(Exception):
    """Base of all errors in this module. `code` is stable, the message is for people, `details` are safe to show."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.details = details


class InvalidInput(LedgerError):
    code = "invalid_input"


class InvalidRequest(InvalidInput):
    code = "invalid_request"


class InvalidTable(InvalidRequest):
    code = "invalid_table"


class InvalidEncoding(InvalidInput):
    code = "invalid_encoding"


class InvalidCanonicalForm(InvalidInput):
    code = "invalid_canonical_form"


class InvalidTime(InvalidInput):
    code = "invalid_time"


class InvalidIdentifier(InvalidInput):
    code = "invalid_identifier"


class InvalidPhone(InvalidIdentifier):
    code = "invalid_phone"


class InvalidEmail(InvalidIdentifier):
    code = "invalid_email"


class InvalidCnId(InvalidIdentifier):
    code = "invalid_cn_id"


class InvalidPayment(InvalidIdentifier):
    code = "invalid_payment"


class InvalidDevice(InvalidIdentifier):
    code = "invalid_device"


class UnsupportedKind(InvalidIdentifier):
    code = "unsupported_kind"


class InvalidPoint(InvalidInput):
    code = "invalid_point"


class IdentityPoint(InvalidPoint):
    code = "identity_point"


class InvalidPublicKey(InvalidInput):
    code = "invalid_public_key"


class InvalidScalar(InvalidInput):
    code = "invalid_scalar"


class BatchSizeInvalid(InvalidInput):
    code = "batch_size_invalid"


class InvalidReport(InvalidInput):
    code = "invalid_report"


class UnknownConduct(InvalidReport):
    code = "unknown_conduct"


class EvidenceInsufficient(InvalidReport):
    code = "evidence_insufficient"


class EvidenceOriginMissing(EvidenceInsufficient):
    """The minimum of the conduct is not met, only because an original file has no origin."""

    code = "evidence_origin_missing"


class EvidenceInvalid(InvalidReport):
    code = "evidence_invalid"


class EvidenceUntrusted(EvidenceInvalid):
    """A finding claims to identify, but does not state that its signer is on a trust list."""

    code = "evidence_untrusted"


class EvidenceRefused(InvalidReport):
    code = "evidence_refused"


class NoticeInvalid(InvalidReport):
    code = "notice_invalid"


class NoticeOutdated(InvalidReport):
    """A further report of an order needs a notice sent after the earlier one was recorded, `details["not_before"]`."""

    code = "notice_outdated"


class ConsentMissing(InvalidReport):
    """A report, a lookup or a check lacks the reference to the person's consent that the profile requires."""

    code = "consent_missing"


class ConductNotInPolicy(InvalidReport):
    """The policy in effect does not name this conduct, although this version knows it. `details["known"]` lists those
    that it names."""

    code = "conduct_not_in_policy"


class AlreadyExpired(InvalidReport):
    code = "already_expired"


class SubjectsInvalid(InvalidReport):
    code = "subjects_invalid"


class CommitmentMismatch(InvalidReport):
    code = "commitment_mismatch"


class LinkedReportInvalid(InvalidReport):
    code = "linked_report_invalid"


class ReplacementInvalid(InvalidReport):
    code = "replacement_invalid"


class RestitutionInvalid(InvalidReport):
    code = "restitution_invalid"


class PolicyInvalid(InvalidInput):
    code = "policy_invalid"


class PolicyTimeInvalid(PolicyInvalid):
    """A policy would take effect at a time that is not a UTC midnight, too soon after publication, or too late."""

    code = "policy_time_invalid"


class AppealInvalid(InvalidInput):
    code = "appeal_invalid"


class DecisionInvalid(InvalidInput):
    code = "decision_invalid"


class AttachmentRefused(InvalidInput):
    """The file has a type that is not accepted, is too large, is empty, or is not of the type that it claims."""

    code = "attachment_refused"


class WebhookInvalid(InvalidInput):
    code = "webhook_invalid"


class StaffInvalid(InvalidInput):
    code = "staff_invalid"


class LinkInvalid(InvalidInput):
    """An enrolment link of the console is unknown, used, or too old."""

    code = "link_invalid"


class InspectionInvalid(InvalidInput):
    """A file cannot be inspected; the subclass gives the reason."""

    code = "inspection_invalid"


class EvidenceUnreadable(InspectionInvalid):
    """The file does not exist, is not a regular file, or may not be read."""

    code = "evidence_unreadable"


class EvidenceTooLarge(InspectionInvalid):
    code = "evidence_too_large"


class EvidenceFormatUnknown(InspectionInvalid):
    """The first bytes of the file are not those of a type that can be inspected."""

    code = "evidence_format_unknown"


class EvidenceMalformed(InspectionInvalid):
    """The file is damaged or truncated, so that nothing in it can be read."""

    code = "evidence_malformed"


class InspectionReceiptInvalid(InspectionInvalid):
    """A receipt of an inspection does not have the documented form."""

    code = "inspection_receipt_invalid"


class ListingUnreadable(InspectionInvalid):
    """A listing photo for a comparison does not exist, or cannot be decoded as a picture."""

    code = "listing_unreadable"


class PictureUnfit(InvalidInput):
    """The hash of a picture would match too many others, because the picture is too uniform or too small."""

    code = "picture_unfit"


class PictureUnreadable(InvalidInput):
    """A file cannot be decoded as a picture, or has too many pixels."""

    code = "picture_unreadable"


class InspectionMismatch(InvalidInput):
    """A receipt of an inspection belongs to no file of the reports, or is not the receipt that a report names."""

    code = "inspection_mismatch"


class ProofError(LedgerError):
    code = "proof_error"


class InvalidProof(ProofError):
    code = "invalid_proof"


class HolderMismatch(ProofError):
    code = "holder_mismatch"


class CeremonyFault(ProofError):
    """A message of a key ceremony is missing, malformed or false. `details["participant"]` is the number of the
    participant that it names (None if no single one is at fault), `details["reason"]` a stable word."""

    code = "ceremony_fault"


class CeremonyMismatch(CeremonyFault):
    """A participant of a key ceremony, `details["participant"]`, worked on other messages or other parameters."""

    code = "ceremony_mismatch"


class InvalidCiphertext(ProofError):
    """A ciphertext is not one of this key, nonce and associated data."""

    code = "invalid_ciphertext"


class InvalidSignature(ProofError):
    code = "invalid_signature"


class InvalidCheckpoint(ProofError):
    code = "invalid_checkpoint"


class InvalidInclusion(ProofError):
    code = "invalid_inclusion"


class Inconsistent(ProofError):
    code = "inconsistent_log"


class Equivocation(Inconsistent):
    """The log signed two checkpoints of which neither is a prefix of the other. Keep both notes: they prove it."""

    code = "equivocation"


class InvalidTile(ProofError):
    code = "invalid_tile"


class InvalidLeaf(ProofError):
    code = "invalid_leaf"


class InvalidReceipt(ProofError):
    code = "invalid_receipt"


class InvalidManifest(ProofError):
    """The manifest of a snapshot is malformed, not signed by the log's key, or not the one in the log."""

    code = "invalid_manifest"


class InvalidFilter(ProofError):
    """A filter file is truncated, changed, or not the one that the manifest names."""

    code = "invalid_filter"


class InvalidBucket(ProofError):
    """A bucket is not the one that the manifest's root commits to, or an entry in it is malformed."""

    code = "invalid_bucket"


class InvalidRotation(ProofError):
    """A rotation's proofs, element lists and logged root do not agree."""

    code = "invalid_rotation"


class SnapshotExpired(ProofError):
    """The snapshot is past its `not_after` and must not be used for answers."""

    code = "snapshot_expired"


class SnapshotStale(ProofError):
    """A snapshot has an earlier cut than one that was seen before: an old snapshot is being replayed."""

    code = "snapshot_stale"


class NewerFormat(ProofError):
    """A correctly signed object has a format that this version cannot read. `details["format"]` is the number of the
    format, if it has one. Install a newer version of this package."""

    code = "newer_format"


class AnswerMismatch(ProofError):
    """An answer does not repeat its request, so it belongs to another one. `details["compared"]` names what differs."""

    code = "answer_mismatch"


class Unauthenticated(LedgerError):
    code = "unauthenticated"


class InvalidToken(Unauthenticated):
    code = "invalid_token"


class TokenExpired(Unauthenticated):
    code = "token_expired"


class TokenUsed(Unauthenticated):
    """A token that is taken once was sent a second time."""

    code = "token_used"


class UnknownKey(Unauthenticated):
    code = "unknown_key"


class LoginRefused(Unauthenticated):
    """Name, password or one-time code is wrong, or the account is locked. The answer does not say which, on purpose."""

    code = "login_refused"


class SessionExpired(Unauthenticated):
    code = "session_expired"


class Forbidden(LedgerError):
    code = "forbidden"


class ScopeMissing(Forbidden):
    code = "scope_missing"


class PlatformSuspended(Forbidden):
    code = "platform_suspended"


class NotAdmitted(Forbidden):
    """The people of this key holder have not admitted the platform."""

    code = "not_admitted"


class RoleMissing(Forbidden):
    code = "role_missing"


class ConflictOfInterest(Forbidden):
    """The person may not work on this case: it is about their own control group, or they handled it before."""

    code = "conflict_of_interest"


class CrossSite(Forbidden):
    """A form was sent from a page of another site."""

    code = "cross_site"


class NotFound(LedgerError):
    code = "not_found"


class SnapshotUnknown(NotFound):
    """No snapshot of this version is served, or it is not served any longer: fetch the latest."""

    code = "snapshot_unknown"


class Conflict(LedgerError):
    code = "conflict"


class OrderAlreadyReported(Conflict):
    code = "order_already_reported"


class OrderDecided(Conflict):
    """No further report of the order is accepted: `details["case"]` was decided, and not as upheld, or its report was
    withdrawn."""

    code = "order_decided"


class ReportDisputed(Conflict):
    """The person contests the report: it cannot be replaced while `details["case"]` is open. The request may succeed
    later."""

    code = "report_disputed"


class AlreadyReversed(Conflict):
    code = "already_reversed"


class AlreadyRestituted(Conflict):
    code = "already_restituted"


class IdempotencyMismatch(Conflict):
    code = "idempotency_mismatch"


class StaleEpoch(Conflict):
    code = "stale_epoch"


class StaleGeneration(Conflict):
    """The shares of this generation of the key are not used any more, or not yet."""

    code = "stale_generation"


class EvaluatedByHolders(Conflict):
    """The service has no share of the key: independent holders evaluate."""

    code = "evaluated_by_holders"


class AlreadyExists(Conflict):
    code = "already_exists"


class RotationRefused(Conflict):
    """The state of the key epochs does not allow this step."""

    code = "rotation_refused"


class StaffChanged(Conflict):
    """Another admin has changed the account in the meantime."""

    code = "staff_changed"


class CaseExists(Conflict):
    """A case about this report exists already."""

    code = "case_exists"


class CaseTaken(Conflict):
    """Another reviewer works on this case."""

    code = "case_taken"


class ActionRefused(Conflict):
    """The state of the case does not allow this action."""

    code = "action_refused"


class PolicyAlreadyPublished(Conflict):
    """The log contains a policy with exactly this text already."""

    code = "policy_already_published"


class PolicyVersionNotNext(Conflict):
    """A policy's version is not `details["expected"]`, the newest published one plus 1."""

    code = "policy_version_not_next"


class PolicyOvertaken(Conflict):
    """An announced policy, `details["version"]`, would not be in effect before the new one."""

    code = "policy_overtaken"


class ReportNotReferable(Conflict):
    """The report cannot be referred: it is not in force any longer (`details["status"]`), or it protects a person."""

    code = "report_not_referable"


class LimitExceeded(LedgerError):
    code = "limit_exceeded"


class QuotaExceeded(LimitExceeded):
    """`details["retry_after_seconds"]` says when the quota renews."""

    code = "quota_exceeded"


class BodyTooLarge(LimitExceeded):
    code = "body_too_large"


class TooManyAttempts(LimitExceeded):
    """`details["retry_after_seconds"]` says when to try again."""

    code = "too_many_attempts"


class Unavailable(LedgerError):
    """The same request may succeed later. `details["retry_after_seconds"]` suggests when."""

    code = "unavailable"


class LogFrozen(Unavailable):
    code = "log_frozen"


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"


class Overloaded(Unavailable):
    code = "overloaded"


class IndexNotReached(Unavailable):
    code = "index_not_reached"


class ReceiptPending(Unavailable):
    code = "receipt_pending"


class PolicyUnreadable(Unavailable):
    """The text of the policy in effect, `details["version"]`, is missing or has a form that this version cannot
    read."""

    code = "policy_unreadable"


class ConfigurationError(LedgerError):
    code = "configuration_error"


class UnexpectedAnswer(LedgerError):
    """The service answered in a form that this version cannot read. `details["answered_code"]` is the problem code of
    the answer, if it has one."""

    code = "unexpected_answer"
