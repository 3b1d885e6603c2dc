"""Recorded answers in the place of a provider. Replay comes with its own release; nothing here is public yet."""
