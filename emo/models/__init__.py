"""The models: `config` (light to import), `text`, `audio`, `fusion`, and `model`, which joins them.

Nothing is imported here, so that reading a configuration does not load torch.
"""
