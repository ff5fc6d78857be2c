"""Pictures and sounds, as arrays: of results, and of single turns. Knows nothing of runs.

Drawn with Pillow, which TensorBoard needs anyway. matplotlib would be one more dependency with ten
others behind it, and takes longer to import than all pictures of an epoch take to draw.
"""
