"""Staff accounts, sessions, enrolment and the audit log."""
