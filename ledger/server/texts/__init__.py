"""Letters to consumers and the legal routes that they name."""
