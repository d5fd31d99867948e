"""The model on a GPU: speed by precision, compiled and as a CUDA graph, memory, difference from the CPU.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --backbone resnet18 --height 64 --width 96 --seconds 0  # dry run

The model has the paper's size and random weights. Every row names its ratio to float32 without any of it, in
the same run; above them is the device's peak in a matrix product of each precision.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import ProfilerActivity, profile

from mdetr.model.config import MdetrConfig
from mdetr.model.interface import Targets
from mdetr.model.mdetr import ImageFeatures, TextFeatures
from mdetr.modeling import MdetrForObjectDetection

TOKENS, BOXES, BATCH, TEXTS_PER_IMAGE = 16, 3, 8, 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Bench:
    """Measures one model on one device.

    Args:
        arguments: Arguments of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self.size = arguments.height, arguments.width
        self.least_seconds = arguments.seconds
        torch.manual_seed(0)
        self.model = MdetrForObjectDetection(MdetrConfig(backbone=arguments.backbone)).eval().to(self.device)
        torch.nn.Module.to(self.model, memory_format=torch.channels_last)
        self.model.backbone.folds_norms = True
        self.baseline: dict[str, float] = {}

    def wait(self) -> None:
        """Wait until the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def inputs(self, images: int, texts: int) -> dict[str, Tensor]:
        """Random images, and texts of which each has an image."""
        generator = torch.Generator().manual_seed(0)
        inputs = {
            "pixel_values": torch.randn(images, 3, *self.size, generator=generator),
            "input_ids": torch.randint(5, 50_000, (texts, TOKENS), generator=generator),
            "image_index": torch.arange(texts) * images // texts,
        }
        return {name: value.to(self.device) for name, value in inputs.items()}

    def targets(self, texts: int) -> Targets:
        """Random boxes of the texts."""
        tokens = torch.zeros(texts, BOXES, self.model.config.num_token_positions, dtype=torch.bool)
        tokens[..., 2:4] = True
        return Targets(
            boxes=torch.rand(texts, BOXES, 4).mul(0.4).add(0.2).to(self.device),
            box_mask=torch.ones(texts, BOXES, dtype=torch.bool, device=self.device),
            positive_map=tokens.to(self.device),
            alignment_map=tokens[..., :TOKENS].to(self.device),
        )

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Automatic mixed precision, except in float32."""
        if dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype)

    def seconds(self, work: Callable[[], object]) -> float:
        """Median time of some work, after it has run twice."""
        for _ in range(2):
            work()
        times: list[float] = []
        while not times or sum(times) < self.least_seconds:
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return median(times)

    def print_row(self, part: str, way: str, seconds: float, count: int = 1) -> None:
        """Print milliseconds, a rate, and the ratio to the first row of the part."""
        first = self.baseline.setdefault(part, seconds)
        print(
            f"{part:14}{way:16}{seconds * 1e3:9.2f} ms{count / seconds:9.1f}/s   ratio {first / seconds:5.2f}"
            f"{self._memory()}"
        )

    def _memory(self) -> str:
        if self.device.type != "cuda":
            return ""
        peak = torch.cuda.max_memory_allocated(self.device) / 2**20
        torch.cuda.reset_peak_memory_stats(self.device)
        return f"   {peak:,.0f} MiB"


def print_peak(bench: Bench) -> None:
    """Print the speed of a matrix product in each precision."""
    for name, dtype in DTYPES.items():
        side = 8192 if bench.device.type == "cuda" else 512
        matrix = torch.rand(side, side, device=bench.device, dtype=dtype)
        seconds = bench.seconds(lambda matrix=matrix: matrix @ matrix)
        print(f"matrix product {name}: {2 * side**3 / seconds / 1e12:.2f} TFLOP/s")


def print_agreement(bench: Bench) -> None:
    """Print the largest difference of boxes and scores from the CPU in float32."""
    inputs = bench.inputs(1, 1)
    reference = MdetrForObjectDetection(bench.model.config).eval()
    reference.load_state_dict({name: value.cpu() for name, value in bench.model.state_dict().items()})
    with torch.inference_mode():
        expected = reference(**{name: value.cpu() for name, value in inputs.items()})
        for name, dtype in DTYPES.items():
            with bench.autocast(dtype):
                output = bench.model(**inputs)
            boxes = (output.pred_boxes.float().cpu() - expected.pred_boxes).abs().max()
            scores = output.logits.float().softmax(-1).cpu() - expected.logits.softmax(-1)
            print(f"difference from the CPU, {name}: boxes {boxes:.1e}, scores {scores.abs().max():.1e}")


@torch.inference_mode()
def print_inference(bench: Bench) -> None:
    """Print the time of an image, of a second text on it, and of a batch."""
    one, many = bench.inputs(1, 1), bench.inputs(BATCH, BATCH)
    for name, dtype in DTYPES.items():
        with bench.autocast(dtype):
            images = bench.model.encode_image(one["pixel_values"])
            bench.print_row("one image", name, bench.seconds(lambda: bench.model(**one)))
            bench.print_row(
                "second text",
                name,
                bench.seconds(lambda images=images: bench.model.fuse(images, encode(bench, one))),
            )
            batch_seconds = bench.seconds(lambda: bench.model(**many))
            bench.print_row(f"batch of {BATCH}", name, batch_seconds, BATCH)
            if bench.device.type == "cuda":
                graph = capture_fusion(bench, images, encode(bench, one))
                bench.print_row("second text", f"{name} CUDA graph", bench.seconds(graph.replay))
    print_compiled(bench, one)


def encode(bench: Bench, inputs: dict[str, Tensor]) -> TextFeatures:
    """Features of the texts."""
    return bench.model.encode_text(inputs["input_ids"])


def print_compiled(bench: Bench, inputs: dict[str, Tensor]) -> None:
    """Print the time of an image with `torch.compile`, and how long compiling took."""
    compiled = torch.compile(bench.model)
    dtype = torch.bfloat16
    with bench.autocast(dtype):
        start = time.perf_counter()
        compiled(**inputs)
        bench.wait()
        print(f"compiling took {time.perf_counter() - start:.1f} s")
        bench.print_row("one image", "bf16 compiled", bench.seconds(lambda: compiled(**inputs)))


def capture_fusion(bench: Bench, images: ImageFeatures, texts: TextFeatures) -> torch.cuda.CUDAGraph:
    """Record the fusion of one image and one text, which then starts as one piece of work."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            bench.model.fuse(images, texts)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bench.model.fuse(images, texts)
    return graph


def print_training(bench: Bench) -> None:
    """Print the time of a training step in one process of NCCL, and what it waits for."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}
    dist.init_process_group("nccl" if bench.device.type == "cuda" else "gloo", rank=0, world_size=1)
    texts = BATCH * TEXTS_PER_IMAGE
    inputs, targets = bench.inputs(BATCH, texts), bench.targets(texts)
    bench.model.train()
    model = DistributedDataParallel(bench.model)
    optimizer = torch.optim.AdamW(bench.model.parameters(), lr=1e-6, fused=True)
    for name, dtype in DTYPES.items():
        scaler = torch.amp.GradScaler(bench.device.type, enabled=dtype == torch.float16)

        def step(dtype: torch.dtype = dtype, scaler: torch.amp.GradScaler = scaler) -> None:
            with bench.autocast(dtype):
                loss = model(**inputs, targets=targets).loss
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

        bench.print_row("training step", name, bench.seconds(step), BATCH)
        if dtype == torch.bfloat16 and bench.device.type == "cuda":
            print_waits(step)
    dist.destroy_process_group()


def print_waits(step: Callable[[], None]) -> None:
    """Print how often a training step waits for the device."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
    counts = {event.key: event.count for event in profiler.key_averages()}
    names = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
    print("a training step waits: " + ", ".join(f"{name} {counts.get(name, 0)}" for name in names))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backbone", default="resnet101")
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1066)
    parser.add_argument("--seconds", type=float, default=2.0, help="least time of each measurement")
    bench = Bench(parser.parse_args())
    if bench.device.type == "cuda":
        print(torch.cuda.get_device_name(bench.device))
    print_peak(bench)
    print_agreement(bench)
    print_inference(bench)
    print_training(bench)


if __name__ == "__main__":
    main()
