"""Routes and schemas for member platforms."""
