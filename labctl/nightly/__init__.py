"""A matrix of labs proven again each night: what to run, running it, its history, what it tells, the report."""
