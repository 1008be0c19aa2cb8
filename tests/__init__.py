"""Tests of the Refund Credit Ledger: plain pytest functions; the folders mirror the packages."""
