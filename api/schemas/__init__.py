"""What travels over the wire, as pydantic models: they validate requests where a stricter parser does not, and the
OpenAPI description is made from them. A test holds the published report schema and the strict parser of
`ledger.core.reports` to the same answers."""
