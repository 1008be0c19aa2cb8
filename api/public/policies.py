"""Routes of this ledger's policies: the rules that turn recorded events into a standing, and their dates."""

from __future__ import annotations

import re
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api.deps import runtime
from api.json_io import answer
from api.openapi import Success, operation
from api.platform.snapshots import is_known
from api.public.policy_schemas import PolicyDocument, PolicyList
from ledger import errors as e
from ledger.protocol.encoding import b64url, format_time
from ledger.rules.policy.timeline import PublishedPolicy

router = APIRouter()

MAX_AGE_SECONDS = 3600
_CACHED = {"Cache-Control": {"schema": {"type": "string"}}, "ETag": {"schema": {"type": "string"}}}
_VERSION = re.compile(r"[1-9][0-9]{0,9}\Z", re.ASCII)


@router.get(
    "/v1/policies",
    **operation(
        "listPolicies",
        "All published policies, with the times from which they are in effect",
        "suite",
        {200: Success("The policies, oldest first.", PolicyList)},
    ),
)
async def list_policies(request: Request) -> Response:
    """No token is needed. A change is listed at least 7 days before it is in effect."""
    rt = runtime(request)
    timeline = rt.policies.timeline
    current = timeline.entry_at(rt.now())
    return answer({"in_effect": current.version, "policies": [_published(policy) for policy in timeline.published]})


@router.get(
    "/v1/policies/{version}",
    **operation(
        "getPolicy",
        "A policy with its text",
        "suite",
        {
            200: Success("The policy.", PolicyDocument, headers=_CACHED),
            304: Success("Not modified: `If-None-Match` names what there is.", media_type="", headers=_CACHED),
        },
        raises=(e.NotFound,),
    ),
)
async def get_policy(
    request: Request, version: Annotated[str, Path(description="Version of the policy.", examples=["1"])]
) -> Response:
    """No token is needed. A published text never changes; the SHA-256 in its entry of the log pins it."""
    policy = runtime(request).policies.timeline.find(int(version)) if _VERSION.match(version) else None
    if policy is None or policy.text is None:
        raise e.NotFound("There is no policy of this version.")
    etag = f'"{b64url(policy.sha256)}"'
    headers = {"Cache-Control": f"public, max-age={MAX_AGE_SECONDS}", "ETag": etag}
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    body = orjson.dumps({**_published(policy), "toml": policy.text})
    return Response(body, media_type="application/json", headers=headers)


def _published(policy: PublishedPolicy) -> dict[str, Any]:
    return {
        "version": policy.version,
        "toml_sha256": b64url(policy.sha256),
        "published_at": format_time(policy.published_at),
        "in_effect_at": format_time(policy.in_effect_at),
        "entry_index": policy.entry_index,
    }
