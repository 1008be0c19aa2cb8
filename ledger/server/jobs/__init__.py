"""Background jobs and what they report: maintenance, heartbeat, readiness, metrics."""
