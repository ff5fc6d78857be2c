"""Attributes (arousal, valence, dominance, ...): numbers that a model predicts beside the classes.

Nothing is imported here, so that reading a configuration does not load torch.
"""
