"""Diagnosis: what differs from a lab's plan, why, and the command that mends it; root causes first."""
