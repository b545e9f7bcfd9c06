"""Verbs: parsing and printing only; the work is done elsewhere."""
