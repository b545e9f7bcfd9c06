"""Text that becomes code: how it is written inside other languages."""
