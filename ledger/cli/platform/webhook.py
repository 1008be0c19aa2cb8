"""`webhook`: where a platform wants to be told, and what became of telling it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ledger.cli import options, output
from ledger.cli.options import KeyOption, StateOption, SuiteOption
from ledger.cli.output import JsonFlag, guarded
from ledger.cli.tables import Table
from ledger.client import WebhookDelivery, WebhookEndpoint
from ledger.protocol.encoding import format_time
from ledger.rules.webhooks import SUBSCRIBABLE

webhook = typer.Typer(no_args_is_help=True, help="Be told what happens: endpoints, secrets, deliveries.")

EndpointId = Annotated[str, typer.Argument(help="The endpoint's id, we_...")]
MessageId = Annotated[str, typer.Argument(help="The message's id, wm_...")]


@webhook.command("add")
@guarded
def add(
    url: Annotated[str, typer.Argument(help="https, port 443 or 8443.")],
    suite: SuiteOption,
    key: KeyOption,
    event: Annotated[list[str], typer.Option("--event", help=f"One of {', '.join(SUBSCRIBABLE)}; once for each.")],
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Register an endpoint and print its secret, which is never shown again."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show_endpoint(ledger.webhooks.create(url, event))


@webhook.command("list")
@guarded
def list_all(suite: SuiteOption, key: KeyOption, state_dir: StateOption = None, json_output: JsonFlag = False) -> None:
    """List your endpoints."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        endpoints = ledger.webhooks.list()

    def tell(console: Console) -> None:
        table = Table("id", "url", "events", "status")
        for one in endpoints:
            table.add_row(one.id, Text(one.url), " ".join(one.events), one.disabled_reason or one.status)
        console.print(table if endpoints else "There is no endpoint.")

    output.emit({"endpoints": [_plain(one) for one in endpoints]}, tell)


@webhook.command("rotate")
@guarded
def rotate(
    endpoint: EndpointId,
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Change an endpoint's secret and print the new one. The old one signs as well for 24 hours."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show_endpoint(ledger.webhooks.rotate_secret(endpoint))


@webhook.command("enable")
@guarded
def enable(
    endpoint: EndpointId,
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Make an endpoint active again that was disabled because it answered 410."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show_endpoint(ledger.webhooks.enable(endpoint))


@webhook.command("test")
@guarded
def send_test(
    endpoint: EndpointId,
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Have a test message sent to an endpoint."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show_delivery(ledger.webhooks.send_test(endpoint))


@webhook.command("delete")
@guarded
def delete(
    endpoint: EndpointId,
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Delete an endpoint with all its deliveries."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        ledger.webhooks.delete(endpoint)
    output.emit({"deleted": endpoint}, lambda console: console.print(f"{endpoint} is deleted."))


@webhook.command("deliveries")
@guarded
def deliveries(
    endpoint: EndpointId,
    suite: SuiteOption,
    key: KeyOption,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100)] = 50,
    starting_after: Annotated[str | None, typer.Option("--starting-after", help="Last id of the page before.")] = None,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """List what was sent to an endpoint in the last 30 days, newest first."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        page = ledger.webhooks.list_deliveries(endpoint, limit=limit, starting_after=starting_after)

    def tell(console: Console) -> None:
        table = Table("message", "type", "state", "attempts", "last answer", "next attempt")
        for one in page.deliveries:
            answer = " ".join(str(part) for part in (one.last_status, one.last_error) if part is not None)
            again = "" if one.next_attempt_at is None else format_time(one.next_attempt_at)
            table.add_row(one.message, one.type, one.state, str(one.attempts), Text(answer), again)
        console.print(table)
        if page.has_more:
            console.print(f"More: --starting-after {page.deliveries[-1].message}")

    output.emit({"deliveries": [_plain(one) for one in page.deliveries], "has_more": page.has_more}, tell)


@webhook.command("replay")
@guarded
def replay(
    endpoint: EndpointId,
    message: MessageId,
    suite: SuiteOption,
    key: KeyOption,
    state_dir: StateOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Have a message sent again, under the same id."""
    with options.open_ledger(suite, key, state_dir) as ledger:
        _show_delivery(ledger.webhooks.redeliver(endpoint, message))


def _plain(value: WebhookEndpoint | WebhookDelivery) -> dict[str, Any]:
    return {name: one for name, one in output.plain(value).items() if name != "secret" or one is not None}


def _show_endpoint(one: WebhookEndpoint) -> None:
    facts = _plain(one)

    def tell(console: Console) -> None:
        console.print(output.fields({**facts, "events": " ".join(one.events)}))

    output.emit(facts, tell)


def _show_delivery(one: WebhookDelivery) -> None:
    facts = _plain(one)
    output.emit(facts, lambda console: console.print(output.fields(facts)))
