"""Policies: the numbers that turn recorded events into a standing, their order in time, and the shipped texts."""
