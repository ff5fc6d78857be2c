"""Corpus readers. `read.read_corpus` calls the one that a configuration names.

This file imports nothing, so that `shards.corpora.utterance` and `.labels` load at once.
"""
