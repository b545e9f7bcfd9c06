"""The vocabulary of installations: what can be done to a node or asked of an API. Knows no service."""
