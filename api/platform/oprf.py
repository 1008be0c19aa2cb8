"""Route of blinded evaluation."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Blinder, runtime
from api.json_io import answer, parse, read_json
from api.openapi import Success, operation
from api.public.service_schemas import EvaluationAnswer, EvaluationRequest
from ledger import errors as e
from ledger.protocol.encoding import b64url, unb64url
from ledger.server.oprf import evaluation as oprf

router = APIRouter()


@router.post(
    "/v1/oprf/evaluate",
    **operation(
        "evaluateBlinded",
        "Evaluate blinded identifiers",
        "oprf",
        {200: Success("One share for each key holder that this service runs.", EvaluationAnswer)},
        scopes=("lookup", "report"),
        body=EvaluationRequest,
        example={"epoch": 1, "blinded": ["4vR5gHnWmA2BLkT0GPDSRWXJT1vXkRNsSgEH7BTyeD4"]},
        raises=(
            e.BatchSizeInvalid,
            e.InvalidPoint,
            e.IdentityPoint,
            e.StaleEpoch,
            e.EvaluatedByHolders,
            e.QuotaExceeded,
        ),
    ),
)
async def evaluate(request: Request, member: Blinder) -> Response:
    """Scope `lookup` or `report`. Each element counts against the platform's daily quota, whether or not the answer
    arrives; a malformed batch costs nothing. A ledger whose key several holders share has no share of its own:
    `evaluated_by_holders` names the holders and their addresses."""
    body = parse(EvaluationRequest, await read_json(request))
    rt = runtime(request)
    blinded = [unb64url(element, 32) for element in body.blinded]
    evaluation = await to_thread.run_sync(oprf.evaluate, rt.oprf, member, body.epoch, blinded)
    share = {
        "holder": rt.keys.holder,
        "evaluated": [b64url(element) for element in evaluation.evaluated],
        "proof": b64url(evaluation.proof),
    }
    return answer({"epoch": body.epoch, "shares": [share]})
