"""What each process of the server needs: background threads, batching, log lines, signals."""
