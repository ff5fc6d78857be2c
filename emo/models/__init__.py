"""The models: a folder an axis (text, audio, fusion, context), and `model`, which joins them.

`registry` says which class stands behind which kind. Nothing is imported here, so that reading a
configuration does not load torch.
"""
