"""Golden images: built once, content-addressed, verified on use, never changed."""
