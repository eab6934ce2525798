#!/usr/bin/env python3
"""Time PyTorch's batch norm, and compare what it computes with float64.

Prints one JSON line for each shape and pass. On the CPU each run is timed by the wall clock; on a CUDA
device, events enclose runs over different inputs, which together are larger than the L2 cache.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch

from peer import WARMUP, inputs_on_cpu, sizes, wall_times

PASSES = ("forward_train", "forward_eval", "backward", "forward_backward")
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
# Largest error of a right result, as a fraction of the largest value.
TOLERANCES = {"f32": 1e-4, "f16": 4e-3, "bf16": 3e-2}
LAYERS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shape", type=sizes, action="append", required=True, metavar="N,…", help="as it lies in memory"
    )
    parser.add_argument("--layout", choices=("channels-first", "channels-last"), default="channels-first")
    parser.add_argument(
        "--pass",
        dest="passes",
        choices=(*PASSES, "copy"),
        action="append",
        help="all but copy by default; copy is the device's own copy of x",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--variant",
        choices=("native", "cudnn", "compile"),
        default="native",
        help="native is PyTorch's own code, without cuDNN; compile is what torch.compile makes",
    )
    parser.add_argument(
        "--dtype",
        choices=tuple(DTYPES),
        default="f32",
        help="of x, y and their gradients; parameters and statistics are f32",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="on the CPU")
    parser.add_argument("--runs", type=int, default=20, help="timed runs")
    args = parser.parse_args()
    if args.variant == "cudnn" and args.device == "cpu":
        parser.error("cuDNN needs --device cuda")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("this PyTorch finds no CUDA device")
    return args


def inputs(args: argparse.Namespace, shape: tuple[int, ...]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Several x, and a dy for each, [N, C, …] with strides according to the layout."""
    dtype = DTYPES[args.dtype]
    count = inputs_on_cpu(shape, dtype.itemsize)
    if args.device == "cuda":
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        count = min(max(4 * cache // (dtype.itemsize * math.prod(shape)), 1), 64)

    def random() -> torch.Tensor:
        values = torch.randn(shape, device=args.device).to(dtype)
        return values.movedim(-1, 1) if args.layout == "channels-last" else values

    return [random() for _ in range(count)], [random() for _ in range(count)]


def make_layer(args: argparse.Namespace, x: torch.Tensor) -> torch.nn.Module:
    """A layer with weight, bias and running statistics other than the initial ones."""
    channel = torch.arange(x.shape[1], dtype=torch.float32)
    layer = LAYERS[x.dim()](x.shape[1])
    with torch.no_grad():
        layer.weight.copy_(1 + 0.5 * channel.sin())
        layer.bias.copy_(channel.cos())
        layer.running_mean.copy_(0.1 * (2 * channel).sin())
        layer.running_var.copy_(1 + 0.2 * (2 * channel).cos())
    return layer.to(args.device)


def calls(
    name: str, layer: torch.nn.Module, forward: Callable, xs: list[torch.Tensor], dys: list[torch.Tensor]
) -> list[Callable[[], tuple[torch.Tensor, ...]]]:
    """For each input, a function that runs the pass once and returns its results."""
    layer.train(name != "forward_eval")
    if name == "forward_eval":

        @torch.inference_mode()
        def evaluate(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (forward(x),)

        return [partial(evaluate, x) for x in xs]

    parameters = (layer.weight, layer.bias)
    xs = [x.detach().requires_grad_() for x in xs]
    if name == "forward_train":
        return [lambda x=x: (forward(x),) for x in xs]
    if name == "backward":
        ys = [forward(x) for x in xs]
        return [
            partial(torch.autograd.grad, y, (x, *parameters), dy, retain_graph=True)
            for x, y, dy in zip(xs, ys, dys)
        ]

    def step(x: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = forward(x)
        return (y, *torch.autograd.grad(y, (x, *parameters), dy))

    return [partial(step, x, dy) for x, dy in zip(xs, dys)]


def implementation(layer: torch.nn.Module, x: torch.Tensor) -> str:
    """Whose code PyTorch takes for the layer: cuDNN does not do every shape."""
    statistics = (layer.running_mean.clone(), layer.running_var.clone())
    with torch.no_grad():
        found = torch._batch_norm_impl_index(
            x,
            layer.weight,
            layer.bias,
            *statistics,
            layer.training,
            0.1,
            layer.eps,
            torch.backends.cudnn.enabled,
        )
    return {0: "native", 1: "cudnn", 2: "miopen"}[found[-1]]


def is_right(args: argparse.Namespace, name: str, x: torch.Tensor, dy: torch.Tensor, found: tuple) -> bool:
    """Whether the results agree with those of PyTorch's own code in float64."""
    layer = make_layer(args, x).double()
    with torch.backends.cudnn.flags(enabled=False):
        exact = calls(name, layer, layer, [x.double()], [dy.double()])[0]()
    tolerance = TOLERANCES[args.dtype]
    return all(
        bool((a - b).abs().max() <= tolerance * b.abs().max()) for a, b in zip(found, exact, strict=True)
    )


def device_times(passes: list[Callable], runs: int) -> list[float]:
    """Milliseconds of a run by the device's clock, on average over all inputs, sorted."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times, launching = [], 0.0
    for k in range(-WARMUP, runs):
        torch.cuda.synchronize()
        if k >= 0:
            # The device first waits, at 2 GHz or less, while the host launches the runs: it is to wait for
            # none of them later.
            torch.cuda._sleep(int(4e9 * launching))
        begin.record()
        started = time.perf_counter()
        # Results are kept, so that each run writes to memory of its own.
        results = [run() for run in passes]
        if k < 0:
            launching = time.perf_counter() - started
        end.record()
        end.synchronize()
        del results
        if k >= 0:
            times.append(begin.elapsed_time(end) / len(passes))
    return sorted(times)


def copies(xs: list[torch.Tensor]) -> list[Callable]:
    """The device's own copy, of each input to memory of its own."""
    targets = [torch.empty_like(x) for x in xs]
    return [partial(target.copy_, x) for target, x in zip(targets, xs)]


def measure(args: argparse.Namespace, shape: tuple[int, ...], name: str) -> dict:
    """The JSON line of a shape and a pass."""
    xs, dys = inputs(args, shape)
    found = {}
    if name == "copy":
        passes = copies(xs)
    else:
        layer = make_layer(args, xs[0])
        forward = torch.compile(layer) if args.variant == "compile" else layer
        passes = calls(name, layer, forward, xs, dys)
        found["implementation"] = "compile" if args.variant == "compile" else implementation(layer, xs[0])
        found["right"] = is_right(args, name, xs[0], dys[0], passes[0]())
    times = device_times(passes, args.runs) if args.device == "cuda" else wall_times(passes, args.runs)
    found |= {"median_ms": times[len(times) // 2], "min_ms": times[0]}
    if name == "copy":
        found["gb_per_s"] = 2 * xs[0].nbytes / found["median_ms"] / 1e6
    return found


def describe(args: argparse.Namespace) -> dict:
    """What the lines of all shapes have in common."""
    on_cpu = args.device == "cpu"
    cudnn = torch.backends.cudnn.version()
    return {
        "peer": "pytorch",
        "version": torch.__version__,
        "variant": args.variant,
        "adapter": "CPU" if on_cpu else torch.cuda.get_device_name(),
        "driver": f"{args.threads} threads" if on_cpu else f"CUDA {torch.version.cuda}, cuDNN {cudnn}",
        "dtype": args.dtype,
        "layout": args.layout,
        "clock": "wall" if on_cpu else "device",
    }


def main() -> None:
    args = arguments()
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    cudnn = torch.backends.cudnn.flags(enabled=False) if args.variant == "native" else nullcontext()
    with cudnn:
        for shape in args.shape:
            for name in args.passes or PASSES:
                line = {**describe(args), "shape": shape, "pass": name, **measure(args, shape, name)}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
