"""Common parts of schemas, and the problem document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ledger.protocol.encoding import MAX_INTEGER
from ledger.protocol.public_ids import id_pattern
from ledger.rules.consent import MAX_REF_CHARS, fault_of_reference

TIME_PATTERN = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"

# base64url without padding: the last character of 16 (32, 64) bytes carries 2 (4, 2) bits, its others must be zero.
Bytes16 = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$"),
    Field(description="16 bytes as base64url without padding.", examples=["A" * 22]),
]
Bytes32 = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"),
    Field(description="32 bytes as base64url without padding.", examples=["A" * 43]),
]
Bytes64 = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{85}[AQgw]$"),
    Field(description="64 bytes as base64url without padding.", examples=["A" * 86]),
]
Time = Annotated[
    str,
    StringConstraints(pattern=TIME_PATTERN),
    Field(description="UTC, whole seconds.", examples=["2026-01-31T23:59:59Z"]),
]
ReportId = Annotated[str, StringConstraints(pattern=f"^{id_pattern('rp')}$"), Field(examples=["rp_Xk3mPq9a"])]
Epoch = Annotated[int, Field(ge=1, le=2**31 - 1, description="Key epoch, as `GET /v1/suite` lists it.")]
AmountMinor = Annotated[
    int,
    Field(ge=0, le=MAX_INTEGER, description="Amount in the currency's minor unit (cents, fen; yen has none)."),
]
Currency = Annotated[
    str, StringConstraints(pattern=r"^[A-Z]{3}$"), Field(description="ISO 4217 code.", examples=["CNY"])
]
Reference = Annotated[
    str,
    StringConstraints(pattern=rf"^[^\u0000-\u001f\u007f-\u009f]{{1,{MAX_REF_CHARS}}}$"),
    Field(description="Printable text in Unicode NFC. Never an identifier of a person."),
]
"""A reference, as far as a schema can describe it: `ledger.rules.consent` checks printable characters and NFC."""


def _fit_reference(text: str) -> str:
    fault = fault_of_reference(text)
    if fault is not None:
        raise PydanticCustomError("reference", "The reference {fault}", {"fault": fault})
    return text


CheckedReference = Annotated[Reference, AfterValidator(_fit_reference)]
"""A Reference checked by the rule of `ledger.rules.consent`, for requests that the rules do not parse again."""

Kind = Literal["phone", "email", "cn_id", "payment", "device"]
FindingCodeText = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Wire(BaseModel):
    """Base of all schemas: strict, without coercion or unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FieldError(Wire):
    """One fault in the request. Its values and unknown names are never repeated."""

    loc: Annotated[list[str | int], Field(description="Path to the place, e.g. [`subjects`, 0, `tag`].")]
    message: str


class Problem(BaseModel):
    """RFC 9457 problem. Match on `code`; show `detail` to people. Some codes add members of their own."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(pattern=r"^urn:refund-ledger:problem:[a-z_]+$")]
    title: str
    status: Annotated[int, Field(ge=200, le=599)]
    detail: str
    code: Annotated[str, Field(pattern=r"^[a-z_]+$")]
    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    errors: Annotated[list[FieldError], Field(description="With `invalid_request`: what is wrong, and where.")] = []
    epoch: Annotated[int, Field(description="With `stale_epoch`: the current epoch.")] = 0
    report: Annotated[str, Field(description="With `order_already_reported`: your report of this order.")] = ""
    missing: Annotated[list[str], Field(description="With `evidence_insufficient`: what is missing.")] = []
    case: Annotated[str, Field(description="With `case_exists`: the case that there is already.")] = ""
    reason: Annotated[str, Field(description="With `attachment_refused`: why, for programs.")] = ""
