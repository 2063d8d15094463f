"""The facts of the public protocols: messages with their fields, numbers and types, as tables."""
