"""Labeling of image collections: predictions become a data set in a common format."""
