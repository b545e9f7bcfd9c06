"""The driver ``vagrant``: a lab's machines created by Vagrant, the way a plain Vagrant user would."""
