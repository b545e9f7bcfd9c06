"""What can be done to a lab: up, down, nodes, snapshots, faults, logs."""
