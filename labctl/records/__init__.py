"""What is recorded about a lab: its record, its secrets, how to reach it."""
