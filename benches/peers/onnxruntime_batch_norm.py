#!/usr/bin/env python3
"""Time ONNX Runtime's batch norm in eval mode on the CPU, and compare what it computes with float64.

Prints one JSON line for each shape.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from peer import inputs_on_cpu, sizes, wall_times

EPS = 1e-5
# Largest error of a right result, as a fraction of the largest value.
TOLERANCE = 1e-4


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shape", type=sizes, action="append", required=True, metavar="N,C,…", help="channels first"
    )
    parser.add_argument(
        "--pass", dest="passes", choices=("forward_eval",), action="append", help="the only one there is"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=20, help="timed runs")
    return parser.parse_args()


def parameters(channels: int) -> dict[str, np.ndarray]:
    """Parameters and running statistics by their names in the graph."""
    channel = np.arange(channels)
    values = {
        "weight": 1 + 0.5 * np.sin(channel),
        "bias": np.cos(channel),
        "running_mean": 0.1 * np.sin(2 * channel),
        "running_var": 1 + 0.2 * np.cos(2 * channel),
    }
    return {name: value.astype(np.float32) for name, value in values.items()}


def session(
    shape: tuple[int, ...], constants: dict[str, np.ndarray], threads: int
) -> onnxruntime.InferenceSession:
    """A graph with one BatchNormalization."""
    node = helper.make_node("BatchNormalization", ["x", *constants], ["y"], epsilon=EPS)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph([node], "batch_norm", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def exact(x: np.ndarray, constants: dict[str, np.ndarray]) -> np.ndarray:
    """y in float64."""
    per_channel = (1, -1) + (1,) * (x.ndim - 2)
    weight, bias, mean, var = (value.astype(np.float64).reshape(per_channel) for value in constants.values())
    return weight * (x - mean) / np.sqrt(var + EPS) + bias


def run(model: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding, *arrays: np.ndarray) -> tuple:
    """Run the graph on the arrays it is bound to, and return them."""
    model.run_with_iobinding(binding)
    return arrays


def measure(shape: tuple[int, ...], threads: int, runs: int) -> dict:
    """Milliseconds of the runs, and whether the results are right."""
    constants = parameters(shape[1])
    model = session(shape, constants, threads)
    generator = np.random.default_rng(1)
    passes = []
    for _ in range(inputs_on_cpu(shape, 4)):
        x, y = generator.standard_normal(shape, dtype=np.float32), np.empty(shape, np.float32)
        binding = model.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y", "cpu", 0, np.float32, shape, y.ctypes.data)
        passes.append(partial(run, model, binding, x, y))
    times = wall_times(passes, runs)
    x, y = passes[0]()
    wanted = exact(x, constants)
    right = bool(np.abs(y - wanted).max() <= TOLERANCE * np.abs(wanted).max())
    return {"median_ms": times[len(times) // 2], "min_ms": times[0], "right": right}


def main() -> None:
    args = arguments()
    for shape in args.shape:
        line = {
            "peer": "onnxruntime",
            "version": onnxruntime.__version__,
            "adapter": "CPU",
            "driver": f"{args.threads} threads",
            "shape": shape,
            "pass": "forward_eval",
            "dtype": "f32",
            "layout": "channels-first",
            "clock": "wall",
            **measure(shape, args.threads, args.runs),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
