"""Parts that each process of the server uses: background threads, batches, log lines, signals."""
