"""A key holder: its folder with the share files, the ceremonies, and the service that evaluates with its share."""
