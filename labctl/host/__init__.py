"""Host mechanisms, one per module."""
