"""Direct lookups: clear answers from memory, hits from the database, and the record of disclosures."""
