"""What is written down about a lab: its record, its secrets, how it is reached."""
