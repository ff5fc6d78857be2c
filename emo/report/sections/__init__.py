"""What the page says, a file a section: facts in, words and charts out."""
