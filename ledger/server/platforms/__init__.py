"""Member platforms, their control groups and weights, and the suite that they pin."""
