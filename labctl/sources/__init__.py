"""A project from somebody's own tree in the place of the release's: what was named, its copy, the layer made of it.

Foreign code is built and compiled in the image's chroot, never on the host; the host only copies files and asks git.
"""
