"""Decoders: log-probabilities -> label sequences. They see no audio, no model and no text."""
