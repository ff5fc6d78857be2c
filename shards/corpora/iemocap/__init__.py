"""The reader of the IEMOCAP release: its files, and what is known of them."""
