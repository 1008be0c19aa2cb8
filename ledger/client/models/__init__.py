"""The ledger's answers as typed values, and how they are decoded."""
