"""labctl on another machine, with this terminal: through OpenSSH's client."""
