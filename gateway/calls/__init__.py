"""Inference calls as objects: what a door has read, how it is checked, how it is sent."""
