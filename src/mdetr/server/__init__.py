"""The HTTP server of `mdetr serve`, made with LitServe (the extra `serve`)."""
