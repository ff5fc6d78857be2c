"""The preprocessing job: raw speech and text become samples in indexed WebDataset shards."""
