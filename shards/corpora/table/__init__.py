"""The reader of tables and folders of recordings, told by a specification what stands where."""
