"""Networks that are lists of layers: one engine for all of them."""
