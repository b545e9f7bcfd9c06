"""Execute a plan: the only package that changes machines and APIs."""
