"""Server of the page, and what it accepts and sends."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount

from mdetr.app.handlers import Handlers, PageConfig
from mdetr.app.page import CSS, build_page
from mdetr.app.predictor import CachedPredictor
from mdetr.listening import LOOPBACK_NAMES, check_port, is_loopback, print_address_when_ready

MAX_UPLOAD = "30mb"
MAX_WAITING = 64  # predictions in the queue

# Nothing may be loaded from other servers. Gradio's scripts are partly inline, and compile templates.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)


def create_app(config: PageConfig, host: str, folder: Path) -> FastAPI:
    """Create the server's application.

    Args:
        config: Settings of the page.
        host: Address that the server listens on. On a loopback address, only requests for this machine's own
            names are answered, so that no web page of a stranger reaches the server through a name that
            resolves to this machine.
        folder: Folder for uploads and results; the server deletes nothing outside it.

    Returns:
        The application.

    Raises:
        CheckpointError: The first model cannot be loaded.
    """
    # Keep uploads and results apart from the files of other programs
    uploads, results = folder / "uploads", folder / "results"
    uploads.mkdir()
    results.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.middleware("http")
    async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    if is_loopback(host):
        server.add_middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK_NAMES))
    handlers = Handlers(config, CachedPredictor(config.device), results)
    page = build_page(config, handlers).queue(max_size=MAX_WAITING)
    # Gradio checks that a file in a request was uploaded only for pages that it has launched itself
    page.has_launched = True
    return gr.mount_gradio_app(
        server,
        page,
        path="/",
        allowed_paths=[str(results)],
        footer_links=[],
        max_file_size=MAX_UPLOAD,
        enable_monitoring=False,
        ssr_mode=False,
        theme=_make_theme(),
        css=CSS,
    )


def serve(config: PageConfig, host: str, port: int, open_browser: bool) -> None:
    """Serve the page until it is interrupted, and then delete all uploads and results.

    Args:
        config: Settings of the page.
        host: Address to listen on.
        port: Port to listen on.
        open_browser: Whether to open the page in this machine's browser.

    Raises:
        InvalidInputError: The port is in use.
        CheckpointError: The first model cannot be loaded.
    """
    check_port(host, port)
    signal.signal(signal.SIGTERM, _exit)
    with tempfile.TemporaryDirectory(prefix="mdetr-app-") as folder:
        app = create_app(config, host, Path(folder))
        print_address_when_ready(app, host, port)
        if open_browser:
            address = f"http://{'127.0.0.1' if not is_loopback(host) else host}:{port}/"
            threading.Timer(1.0, webbrowser.open, [address]).start()
        with suppress(KeyboardInterrupt):
            _PageServer(app, host, port).run()


class _PageServer(uvicorn.Server):
    """Server that ends the connections of open pages when it stops; otherwise it would wait for them.

    Args:
        app: Application with the page.
        host: Address to listen on.
        port: Port to listen on.
    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
        )
        mounted = [route.app for route in app.routes if isinstance(route, Mount)]
        self._gradio_apps = [gradio_app for gradio_app in mounted if isinstance(gradio_app, gr.routes.App)]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop because of a signal."""
        for gradio_app in self._gradio_apps:
            gradio_app.stop_event.set()
        # A prediction that takes longer than the server waits is canceled, and logged with a traceback
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


def _exit(number: int, _: FrameType | None) -> None:
    """End the program when it is terminated, so that its temporary folder is deleted."""
    raise SystemExit(128 + number)


def _make_theme() -> gr.themes.Base:
    """Make the theme: Gradio's own, with fonts of the machine and enough contrast for small text."""
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return theme.set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
    )
