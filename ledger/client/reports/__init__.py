"""Reports of the SDK: making, sending and reading them, and the inspection of their evidence."""
