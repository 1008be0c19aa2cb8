"""Figures for the console: dashboard, policy simulator, health of platforms."""
