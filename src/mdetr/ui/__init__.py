"""Pictures for people: results in, images out."""
