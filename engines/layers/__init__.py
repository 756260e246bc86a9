"""Takes a portrait apart: what is behind the head and body, and their own colours where the edge is soft."""
