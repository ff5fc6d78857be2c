"""What is drawn of a `Moment`, a file a kind."""
