"""The consumer's own page: what is recorded about them, and their appeals, in plain words and without a script."""
