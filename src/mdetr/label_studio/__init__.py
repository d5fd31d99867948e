"""Label Studio: its labeling configurations, and predictions that fit them."""
