"""Commands for the operator of a ledger."""
