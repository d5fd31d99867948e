"""`mdetr serve`: an HTTP server for all tasks of a model, and for Label Studio."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mdetr.cli.options import GROUNDING_MODEL, Device, ModelName
from mdetr.errors import MissingDependencyError
from mdetr.extras import install_command


def serve(
    model: ModelName = GROUNDING_MODEL,
    host: Annotated[
        str,
        typer.Option(
            help="localhost, or 0.0.0.0 (with IPv6 ::), which lets other machines reach the server."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port to listen on.")] = 8000,
    device: Device = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the token that clients have to send; by default the variable MDETR_TOKEN.",
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of requests that the model processes at once.")
    ] = 8,
    cached_images: Annotated[
        int, typer.Option(min=1, help="Number of encoded images that are kept in memory.")
    ] = 64,
    max_megabytes: Annotated[
        float, typer.Option(min=0.001, help="Maximum size of a request, and of an image at an address.")
    ] = 32,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="Maximum size of an image.")] = 50,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Time limit of a request.")] = 60,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Number of requests at a time; others are refused as busy.")
    ] = 64,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of requests of a client in a minute.")
    ] = None,
    private_addresses: Annotated[
        bool, typer.Option("--private-addresses", help="Read images from addresses in private networks too.")
    ] = False,
) -> None:
    """Serve all tasks of a model over HTTP, and the ML backend of Label Studio at /label-studio.

    Only this machine can reach the server, unless --host says otherwise.

    Example: mdetr serve --model clevr-tiny
    """
    if find_spec("litserve") is None:
        raise MissingDependencyError(
            f"The server needs the package litserve; install it with {install_command('serve')}."
        )
    from mdetr.server.config import Limits, ServerConfig, find_label_studio, read_token

    config = ServerConfig(
        model=model,
        device=device,
        batch_size=batch_size,
        cached_images=cached_images,
        private_addresses=private_addresses,
        limits=Limits(
            max_bytes=int(max_megabytes * 1e6),
            max_pixels=int(max_megapixels * 1e6),
            seconds=max_seconds,
            requests_per_minute=rate,
            max_waiting=max_waiting,
        ),
        token=read_token(token_file),
        label_studio=find_label_studio(),
    )
    if device is not None:
        from mdetr.inference.devices import check_request

        check_request(device)

    from mdetr.listening import is_loopback
    from mdetr.server.serving import serve as run_server

    if config.token is None and not is_loopback(host):
        typer.echo(
            "Anyone who reaches this address can use the server; set MDETR_TOKEN to require a token.",
            err=True,
        )
    run_server(config, host, port)
