"""Support for end-to-end tests: waits, projects, guests, clean-up, failure capture.

Used by ``labctl.testing.plugin`` only, which imports it after it has entered a lab.
"""
