"""A dataset whose corpus has changed: what is different, and only that is done again."""
