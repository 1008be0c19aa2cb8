"""The comparison with the merchant's photo on a case's page: findings, the picture of the match, who may see it."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from PIL import Image, ImageDraw

from ledger.evidence.inspection import inspect_bytes
from ledger.evidence.sandbox import inspection as sandbox
from ledger.protocol.encoding import b64url
from ledger.server.appeals.participants import Party
from tests.api.appealed import Browsers, attach, contested, inspected, reported, staffed
from tests.api.conftest import Api
from tests.api.console_fixture import said
from tests.api.test_console_evidence import inspect, item
from tests.evidence.files import saved
from tests.evidence.inspections_once import inspections_once
from tests.support import evidence

__all__ = ["inspections_once"]

# The pages and the inspection of files are the same on both engines; the rows behind them are tests/server's matter.
pytestmark = [pytest.mark.sqlite, pytest.mark.parametrize("api", ["sqlite"], indirect=True)]


@pytest.fixture(scope="module")
def at(api: Api) -> Iterator[Browsers]:
    with staffed(api) as browsers:
        yield browsers


def scene(seed: int) -> Image.Image:
    """A picture full of things, no two seeds alike."""
    chance = random.Random(seed)
    image = Image.new("RGB", (480, 360), "white")
    draw = ImageDraw.Draw(image)
    for _ in range(160):
        x, y, size = chance.randrange(480), chance.randrange(360), chance.randrange(8, 60)
        colour = tuple(chance.randrange(256) for _ in range(3))
        shape = draw.ellipse if chance.random() < 0.5 else draw.rectangle
        shape((x, y, x + size, y + chance.randrange(8, 60)), fill=colour, outline="black")
    return image


LISTING = saved(scene(1), "JPEG", quality=92)
STRANGER = saved(scene(2), "JPEG", quality=92)


def broken(listing: bytes) -> bytes:
    """The listing photo, smaller, with a stain on it, saved anew."""
    image = Image.open(io.BytesIO(listing)).convert("RGB").resize((400, 300))
    ImageDraw.Draw(image).ellipse((156, 112, 231, 175), fill=(60, 35, 10))
    return saved(image, "JPEG", quality=80)


CLAIM = broken(LISTING)


def compared(api: Api, listing: bytes, **changes: Any) -> tuple[str, str]:
    """A case in which claim and listing photo were handed in; case and claim by their public ids."""
    items = [
        reported(CLAIM, "original_file"),
        inspected(CLAIM, "listing_match", **changes),
        reported(listing, "source_image"),
    ]
    case = contested(api, conduct="edited_image", evidence=[*items, *evidence("admission")])
    file = attach(api, case, CLAIM, "claim.jpg", Party.REPORTER)
    attach(api, case, listing, "listing.jpg", Party.REPORTER)
    return case, file


@cache
def with_listing(listing: bytes) -> Mapping[str, Any]:
    """What the report says of an inspection that was compared with this listing photo."""
    result = json.loads(sandbox.ask("inspect", [CLAIM, listing]) or b"")
    assert result["compared"] == 1
    return dict(result["report"])


def test_a_claim_that_was_made_from_the_merchants_photo(api: Api, at: Browsers) -> None:
    case, file = compared(api, LISTING, **with_listing(LISTING))
    reviewer = at.client("reviewer")
    before = reviewer.get(f"/console/cases/{case}")
    assert "and compare it with the merchant’s photo" in item(before, 2)
    assert "merchant’s photo" not in item(before, 3), "it is that photo"
    page = inspect(at, case, file)
    assert "Agrees with the report" in item(page, 2)
    assert "Found again here" in item(page, 2)
    assert "Compared with the merchant’s photo indicates The merchant’s photo, altered listing_altered" in item(page, 2)
    address = f"/console/cases/{case}/match?file={file}&amp;listing={b64url(inspect_bytes(LISTING).sha256)}"
    assert f'<img src="{address}"' in page.text
    drawn = reviewer.get(address.replace("&amp;", "&"))
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(drawn.content)).size[0] > 800, "side by side"
    assert drawn.headers["cache-control"] == "no-store"
    assert "sandbox" in drawn.headers["content-security-policy"]
    assert at.audited(case)[-2:] == ["file_read", "files_compared"]


def test_a_claim_that_was_not(api: Api, at: Browsers) -> None:
    claimed = ["listing_altered"]
    case, file = compared(api, STRANGER, findings=claimed, receipt_sha256=b64url(bytes(32)))
    page = inspect(at, case, file)
    assert "Differs: other findings" in item(page, 2)
    assert "Findings speak against it" in item(page, 2)
    assert "/match?" not in page.text
    stranger = b64url(inspect_bytes(STRANGER).sha256)
    assert at.client("reviewer").get(f"/console/cases/{case}/match?file={file}&listing={stranger}").status_code == 404


def test_without_the_merchants_photo_nothing_is_held_against_the_report(api: Api, at: Browsers) -> None:
    items = [inspected(CLAIM, "listing_match", **with_listing(LISTING)), reported(LISTING, "source_image")]
    case = contested(api, conduct="edited_image", evidence=[*items, *evidence("original_file")])
    page = inspect(at, case, attach(api, case, CLAIM, "claim.jpg", Party.REPORTER))
    assert "Cannot be made again whole: the merchant’s photo was not compared here" in item(page, 1)
    assert "Found, by the reporter’s word" in item(page, 1)


def test_who_may_see_the_match(api: Api, at: Browsers) -> None:
    case, file = compared(api, LISTING)
    listing = b64url(inspect_bytes(LISTING).sha256)
    path = f"/console/cases/{case}/match?file={file}&listing="
    assert at.client("auditor").get(path + listing).status_code == 200
    assert "Somebody else has to work" in said(at.client("bound").get(path + listing))
    assert at.client("admin").get(path + listing).status_code == 403
    for wrong in ("", "nonsense", b64url(bytes(32)), b64url(inspect_bytes(CLAIM).sha256)):
        assert at.client("reviewer").get(path + wrong).status_code == 404
