"""Archives that are elsewhere: on web servers and in object stores, named by URL."""
