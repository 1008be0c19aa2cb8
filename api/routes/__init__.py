"""One module for each topic, each with a `router`."""
