"""`webhook`: manage a platform's webhook endpoints and their deliveries."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import output
from ledger.cli.decorator import command
from ledger.cli.options import PageOptions
from ledger.cli.tables import Table
from ledger.client import RefundLedger, WebhookDelivery, WebhookEndpoint
from ledger.protocol.encoding import format_time
from ledger.rules.webhooks import SUBSCRIBABLE

webhook = typer.Typer(no_args_is_help=True, help="Manage webhook endpoints and deliveries.")

EndpointId = Annotated[str, typer.Argument(help="The endpoint's id, we_...")]
MessageId = Annotated[str, typer.Argument(help="The message's id, wm_...")]


@webhook.command("add")
@command
def add(
    ledger: RefundLedger,
    url: Annotated[str, typer.Argument(help="Address of the endpoint: https, port 443 or 8443.")],
    event: Annotated[list[str], typer.Option("--event", help=f"One of {', '.join(SUBSCRIBABLE)}. Repeat for more.")],
) -> None:
    """Register an endpoint and print its secret, which is never shown again."""
    _show_endpoint(ledger.webhooks.create(url, event))


@webhook.command("list")
@command
def list_all(ledger: RefundLedger) -> None:
    """List your endpoints."""
    endpoints = ledger.webhooks.list()

    def show(console: Console) -> None:
        table = Table("id", "url", "events", "status")
        for endpoint in endpoints:
            table.add_row(
                endpoint.id, Text(endpoint.url), " ".join(endpoint.events), endpoint.disabled_reason or endpoint.status
            )
        console.print(table if endpoints else "There is no endpoint.")

    output.emit({"endpoints": [_plain(endpoint) for endpoint in endpoints]}, show)


@webhook.command("rotate")
@command
def rotate(ledger: RefundLedger, endpoint: EndpointId) -> None:
    """Change an endpoint's secret and print the new one. Messages are signed with the old one as well for 24 hours."""
    _show_endpoint(ledger.webhooks.rotate_secret(endpoint))


@webhook.command("enable")
@command
def enable(ledger: RefundLedger, endpoint: EndpointId) -> None:
    """Enable an endpoint that was disabled because it answered 410."""
    _show_endpoint(ledger.webhooks.enable(endpoint))


@webhook.command("test")
@command
def send_test(ledger: RefundLedger, endpoint: EndpointId) -> None:
    """Send a test message to an endpoint."""
    _show_delivery(ledger.webhooks.send_test(endpoint))


@webhook.command("delete")
@command
def delete(ledger: RefundLedger, endpoint: EndpointId) -> None:
    """Delete an endpoint with all its deliveries."""
    ledger.webhooks.delete(endpoint)
    output.emit({"deleted": endpoint}, lambda console: console.print(f"{endpoint} is deleted."))


@webhook.command("deliveries")
@command
def deliveries(ledger: RefundLedger, endpoint: EndpointId, paging: PageOptions) -> None:
    """List the messages of the last 30 days to an endpoint, newest first."""
    page = ledger.webhooks.list_deliveries(endpoint, limit=paging.limit, starting_after=paging.starting_after)

    def show(console: Console) -> None:
        table = Table("message", "type", "state", "attempts", "last answer", "next attempt")
        for delivery in page.deliveries:
            answer = " ".join(str(part) for part in (delivery.last_status, delivery.last_error) if part is not None)
            again = "" if delivery.next_attempt_at is None else format_time(delivery.next_attempt_at)
            table.add_row(delivery.message, delivery.type, delivery.state, str(delivery.attempts), Text(answer), again)
        console.print(table)
        if page.has_more:
            console.print(f"More: --starting-after {page.deliveries[-1].message}")

    output.emit({"deliveries": [_plain(delivery) for delivery in page.deliveries], "has_more": page.has_more}, show)


@webhook.command("replay")
@command
def replay(ledger: RefundLedger, endpoint: EndpointId, message: MessageId) -> None:
    """Send a message again, with the same id."""
    _show_delivery(ledger.webhooks.redeliver(endpoint, message))


def _plain(value: WebhookEndpoint | WebhookDelivery) -> dict[str, Any]:
    return {name: field for name, field in output.plain(value).items() if name != "secret" or field is not None}


def _show_endpoint(endpoint: WebhookEndpoint) -> None:
    facts = _plain(endpoint)

    def show(console: Console) -> None:
        console.print(output.fields({**facts, "events": " ".join(endpoint.events)}))

    output.emit(facts, show)


def _show_delivery(delivery: WebhookDelivery) -> None:
    facts = _plain(delivery)
    output.emit(facts, lambda console: console.print(output.fields(facts)))
