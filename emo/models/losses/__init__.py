"""What training minimises: one file a loss, and `objective`, which puts them together.

Nothing is imported here, so that reading a configuration does not load torch.
"""
