"""`mdetr app`: a web page that predicts and shows the results."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from mdetr.cli.options import GROUNDING_MODEL, Device, ModelName
from mdetr.errors import MissingDependencyError
from mdetr.extras import install_command


def app(
    model: ModelName = GROUNDING_MODEL,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines reach the page.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 7860,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser of this machine.")
    ] = False,
    device: Device = None,
    any_model: Annotated[
        bool,
        typer.Option(
            "--any-model", help="Let visitors from other machines enter any folder or Hub id as a model."
        ),
    ] = False,
    private_addresses: Annotated[
        bool, typer.Option("--private-addresses", help="Read images from addresses in private networks too.")
    ] = False,
) -> None:
    """Open a web page to try models on images, with boxes, words and scores side by side.

    Only this machine can reach the page, unless --host says otherwise.

    Example: mdetr app --model clevr-tiny --open
    """
    if find_spec("gradio") is None:
        raise MissingDependencyError(
            f"The page needs the package gradio; install it with {install_command('app')}."
        )
    from mdetr.app.handlers import PageConfig
    from mdetr.app.server import serve
    from mdetr.listening import is_loopback

    if device is not None:
        from mdetr.inference.devices import check_request

        check_request(device)
    config = PageConfig(model, device, any_model or is_loopback(host), private_addresses)
    typer.echo(f"Loading {model}.")
    serve(config, host, port, open_browser)
