"""The console: pages for reviewers, supervisors, auditors and admins."""
