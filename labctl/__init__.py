"""labctl: real OpenStack labs from one file, proven end to end."""

__version__ = "0.1.0"
