"""Reports and cases as they are recorded: rows, views, and the transaction that changes them with the log."""
