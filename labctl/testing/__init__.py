"""What the end-to-end tests stand on: waits, projects, guests, clean-up, failure capture.

Used by ``labctl.testing.plugin`` only. Nothing here is imported before a lab is really entered.
"""
