"""How good predicted attributes are."""
