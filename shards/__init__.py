"""The preprocessing job: raw speech and text become samples in indexed WebDataset shards."""

__version__ = "0.1.0"  # of both packages: pyproject.toml reads it here
