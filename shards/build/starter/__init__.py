"""`emo-shards init`: from a person's table to the files that build and train it."""
