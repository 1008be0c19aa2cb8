"""Routes and schemas that need no token: the log, policies, texts of codes, health, metrics."""
