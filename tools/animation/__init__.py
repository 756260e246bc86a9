"""A photograph that comes alive: bundled motions, and pictures moved by them."""
