"""Background jobs and their reports: maintenance, heartbeat, readiness, metrics."""
