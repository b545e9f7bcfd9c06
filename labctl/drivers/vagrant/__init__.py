"""The driver ``vagrant``: a lab's machines made by Vagrant, as somebody who knows nothing else would make them."""
