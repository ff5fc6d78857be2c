"""Search over settings: a space, and the sweep that trains trials from it."""
