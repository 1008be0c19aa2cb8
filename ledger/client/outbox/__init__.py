"""The outbox of the SDK: requests that change the ledger, stored on disk until their answers are final."""
