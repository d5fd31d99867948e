"""The paper in miniature: its claims, checked on generated scenes at a size that two CPU cores can train."""
