"""The web page of `mdetr app`, made with Gradio (the extra `app`)."""

import os

# Gradio reports the use of its applications to its makers, unless this is set before its import.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
