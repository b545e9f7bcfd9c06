"""Releases that a lab passes on an upgrade, and that no topology names: from PyPI on Debian 12.

Each has the whole recipe, as every hop ends with a lab that works.
"""
