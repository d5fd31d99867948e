"""Limits of the data that the commands show in their help; light to import."""

MAX_LENGTH = 250  # characters of a combined caption
