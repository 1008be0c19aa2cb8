"""Schemas of searches for reused pictures."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from api.common_schemas import Bytes32, Time, Wire
from ledger.rules.conduct import MAX_QUALITY, PDQ_PATTERN
from ledger.rules.pictures import MAX_SEARCHED


class SearchedPicture(Wire):
    """A picture by its perceptual hash. The picture itself is never sent."""

    pdq: Annotated[
        str, StringConstraints(pattern=f"^{PDQ_PATTERN}$"), Field(description="PDQ hash, highest bit first.")
    ]
    quality: Annotated[int, Field(ge=0, le=MAX_QUALITY, description="Quality of the hash; 50 at least is needed.")]


class PictureSearch(Wire):
    """1 to 8 pictures of one claim."""

    pictures: Annotated[list[SearchedPicture], Field(min_length=1, max_length=MAX_SEARCHED)]
    order_ref: Bytes32


class PictureResult(Wire):
    """How often a picture, or one within Hamming distance 31 of it, was used. It says nothing about the person who
    sends it now. A refund that several members reported counts once."""

    reports: Annotated[int, Field(ge=0, description="Confirmed reports of others, counting now.")]
    platforms: Annotated[int, Field(ge=0, description="Independent members that made them.")]
    own_reports: Annotated[int, Field(ge=0, description="Counting reports of your own control group, apart.")]
    more: Annotated[bool, Field(description="There are more than the service counts at once.")]
    common: Annotated[
        bool, Field(description="A picture that anybody may have: nothing is counted, and a hit would say nothing.")
    ]


class PictureAnswer(Wire):
    """One result for each picture, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [{"reports": 3, "platforms": 2, "own_reports": 0, "more": False, "common": False}],
                    "as_of": "2026-02-01T08:00:00Z",
                    "padding": "......",
                }
            ]
        }
    )

    results: Annotated[list[PictureResult], Field(max_length=MAX_SEARCHED)]
    as_of: Time
    padding: Annotated[str, Field(description="Gives every answer the same size.")]
