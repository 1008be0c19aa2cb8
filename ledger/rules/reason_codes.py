"""Reason codes of a standing. `ledger.rules.reasons` has their texts."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """In the order in which they are given: first those in favour of the person, then how certain the record is."""

    PROTECTED = "protected"
    DISPUTED = "disputed_not_counted"
    WEAK_MATCH = "weak_match_only"
    REPEATED = "repeated_at_one_platform"
    INDEPENDENT = "independent_reporters"
    ONE_REPORTER = "one_reporter_only"
    FALSE_IMAGE = "false_image_or_video"
    FALSE_DELIVERY = "false_delivery_claim"
    FALSE_RETURN = "false_return"
    FALSE_CHARGEBACK = "false_chargeback"
    LINKED_ACCOUNTS = "linked_accounts"
    OTHER = "other_confirmed_conduct"
    FADED = "minor_or_faded"
    RESTITUTED = "restituted"
    NO_RECORD = "no_record"
