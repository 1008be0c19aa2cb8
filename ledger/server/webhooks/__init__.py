"""Webhooks: platforms are told what happened, by the Standard Webhooks specification (docs/webhooks.md).

- `emit`: writes a message inside the transaction of what it tells, so that the two happen together or not at all;
- `endpoints`: what a platform may do with its endpoints and deliveries;
- `attempt`: one POST, to an address that was checked;
- `sender`: the thread of each API process that takes what is due and sends it.

Every message is delivered at least once, under the same `webhook-id` at every attempt.
"""
