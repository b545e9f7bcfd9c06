"""What ``up`` will do, as pure data: stages of operations, and the ways to print them."""
