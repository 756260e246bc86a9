"""Parts of the program that fail on purpose, and the watch on what leaves it meanwhile."""
