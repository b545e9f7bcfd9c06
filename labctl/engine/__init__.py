"""Carrying out a plan: the only part that changes machines and APIs."""
