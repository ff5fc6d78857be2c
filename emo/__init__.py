"""Training: samples become models and numbers."""
