"""End-to-end suites: run with ``labctl test LAB`` or ``pytest e2e/ --lab LAB -n 4``."""
