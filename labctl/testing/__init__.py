"""Support for end-to-end tests: waits, projects, guests, clean-up, failure capture, results.

``labctl.testing.plugin`` imports what asks a lab's APIs after it has entered the lab.
"""
