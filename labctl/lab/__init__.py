"""Named labs: where they live, what is known of them, who is changing them."""
