"""The eyes of a portrait: irises that are completed, lids that shut, gaze."""
