"""The vocabulary of installations: operations on nodes and on APIs. Knows no service."""
