"""A consumer's own pages: their record, their appeals."""
