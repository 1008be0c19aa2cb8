"""HTTP of the SDK: connections, time budgets, behaviour at a fork, and what is logged."""
