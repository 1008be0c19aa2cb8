"""Webhooks: messages to platforms about events, by the Standard Webhooks specification (docs/webhooks.md).

- `emit`: writes a message in the transaction of the event itself, so that both are committed or neither;
- `endpoints`: the operations of a platform on its endpoints and deliveries;
- `attempt`: one POST, to an address that was checked;
- `sender`: the thread of each API process that takes due deliveries and sends them.

Every message is delivered at least once, under the same `webhook-id` at every attempt.
"""
