"""Routes of webhooks: endpoints and deliveries.

No idempotency keys here: an endpoint created twice is visible in the list and can be deleted, there are at most five,
and a repeated request for a test or a replay sends no message that waits already.
"""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api.deps import Subscriber, runtime
from api.json_io import answer, parse, read_json
from api.openapi import Success, operation
from api.platform.webhook_schemas import (
    PAGE_DEFAULT,
    PAGE_LIMIT,
    DeliveryPage,
    DeliveryView,
    Endpoint,
    EndpointList,
    EndpointRequest,
    EndpointWithSecret,
)
from ledger import errors as e
from ledger.server.webhooks import endpoints

router = APIRouter()

_SCOPES = ("appeal", "report")

EndpointId = Annotated[str, Path(description="An endpoint's id.", examples=["we_Xk3mPq9a"])]
MessageId = Annotated[str, Path(description="A message's id.", examples=["wm_Xk3mPq9a"])]


@router.post(
    "/v1/webhooks",
    **operation(
        "createWebhook",
        "Register an endpoint",
        "webhooks",
        {201: Success("The endpoint, with its secret, this once.", EndpointWithSecret)},
        scopes=_SCOPES,
        body=EndpointRequest,
        example={"url": "https://hooks.acme.example/refund-ledger", "events": ["appeal.opened", "appeal.decided"]},
        raises=(e.WebhookInvalid,),
    ),
)
async def create_webhook(request: Request, member: Subscriber) -> Response:
    """At most five. Keep the secret: it is not shown again."""
    body = parse(EndpointRequest, await read_json(request))
    endpoint = await to_thread.run_sync(endpoints.create, runtime(request).webhooks, member, body.url, body.events)
    return answer(endpoint, 201)


@router.get(
    "/v1/webhooks",
    **operation(
        "listWebhooks",
        "Your platform's endpoints",
        "webhooks",
        {200: Success("All of them, oldest first.", EndpointList)},
        scopes=_SCOPES,
    ),
)
def list_webhooks(request: Request, member: Subscriber) -> Response:
    """Without their secrets."""
    return answer(endpoints.list_all(runtime(request).webhooks, member))


@router.get(
    "/v1/webhooks/{webhook_id}",
    **operation(
        "getWebhook",
        "One of your platform's endpoints",
        "webhooks",
        {200: Success("The endpoint.", Endpoint)},
        scopes=_SCOPES,
        raises=(e.NotFound,),
    ),
)
def get_webhook(request: Request, member: Subscriber, webhook_id: EndpointId) -> Response:
    """404 for other platforms' endpoints too."""
    return answer(endpoints.get(runtime(request).webhooks, member, webhook_id))


@router.delete(
    "/v1/webhooks/{webhook_id}",
    **operation(
        "deleteWebhook",
        "Delete an endpoint",
        "webhooks",
        {204: Success("It is gone.", media_type="")},
        scopes=_SCOPES,
        raises=(e.NotFound,),
    ),
)
def delete_webhook(request: Request, member: Subscriber, webhook_id: EndpointId) -> Response:
    """With all its deliveries. A delivery in progress may still arrive."""
    endpoints.delete(runtime(request).webhooks, member, webhook_id)
    return Response(status_code=204)


@router.post(
    "/v1/webhooks/{webhook_id}/rotate",
    **operation(
        "rotateWebhook",
        "Change an endpoint's secret",
        "webhooks",
        {200: Success("The endpoint, with its new secret, this once.", EndpointWithSecret)},
        scopes=_SCOPES,
        raises=(e.NotFound,),
    ),
)
def rotate_webhook(request: Request, member: Subscriber, webhook_id: EndpointId) -> Response:
    """For 24 hours messages are signed with both. Rotating twice within them drops the oldest secret at once."""
    return answer(endpoints.rotate(runtime(request).webhooks, member, webhook_id))


@router.post(
    "/v1/webhooks/{webhook_id}/enable",
    **operation(
        "enableWebhook",
        "Make a disabled endpoint active again",
        "webhooks",
        {200: Success("The endpoint.", Endpoint)},
        scopes=_SCOPES,
        raises=(e.NotFound,),
    ),
)
def enable_webhook(request: Request, member: Subscriber, webhook_id: EndpointId) -> Response:
    """Deliveries that were cancelled stay so; replay those you need."""
    return answer(endpoints.enable(runtime(request).webhooks, member, webhook_id))


@router.post(
    "/v1/webhooks/{webhook_id}/test",
    **operation(
        "testWebhook",
        "Have a test message sent",
        "webhooks",
        {200: Success("Its delivery.", DeliveryView)},
        scopes=_SCOPES,
        raises=(e.NotFound, e.WebhookInvalid),
    ),
)
def test_webhook(request: Request, member: Subscriber, webhook_id: EndpointId) -> Response:
    """A `webhook.test`, whatever the endpoint subscribes to. While one waits, no second one is made."""
    return answer(endpoints.send_test(runtime(request).webhooks, member, webhook_id))


@router.get(
    "/v1/webhooks/{webhook_id}/deliveries",
    **operation(
        "listDeliveries",
        "What was sent to an endpoint in the last 30 days",
        "webhooks",
        {200: Success("A page.", DeliveryPage)},
        scopes=_SCOPES,
        raises=(e.NotFound, e.InvalidRequest),
    ),
)
def list_deliveries(
    request: Request,
    member: Subscriber,
    webhook_id: EndpointId,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Deliveries on a page.")] = PAGE_DEFAULT,
    starting_after: Annotated[
        str | None,
        Query(max_length=64, description="The last message's id of the page before.", examples=["wm_Xk3mPq9a"]),
    ] = None,
) -> Response:
    """Get the next page with `starting_after` while `has_more`."""
    return answer(endpoints.deliveries(runtime(request).webhooks, member, webhook_id, limit, starting_after))


@router.post(
    "/v1/webhooks/{webhook_id}/deliveries/{message_id}/replay",
    **operation(
        "replayDelivery",
        "Have a message sent again",
        "webhooks",
        {200: Success("Its delivery.", DeliveryView)},
        scopes=_SCOPES,
        raises=(e.NotFound, e.WebhookInvalid),
    ),
)
def replay_delivery(request: Request, member: Subscriber, webhook_id: EndpointId, message_id: MessageId) -> Response:
    """Deliver again now, under the same `webhook-id`, whatever the state of the delivery; after a failure the retry
    schedule begins again."""
    return answer(endpoints.replay(runtime(request).webhooks, member, webhook_id, message_id))
