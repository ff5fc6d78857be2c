"""A trained run on data that it was not trained on: another corpus, noise, another language."""
