"""The tables of all features. They are in one folder because queries of one feature join tables of another."""
