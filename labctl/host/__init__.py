"""What this machine can do: one mechanism a file."""
