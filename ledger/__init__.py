"""The Refund Credit Ledger: confirmed refund fraud, shared without sharing who the customers are."""

__version__ = "0.3.0"
