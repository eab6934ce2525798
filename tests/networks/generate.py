#!/usr/bin/env python3
"""Write layers of PyTorch, and what PyTorch makes of them, as safetensors files.

    pip install torch numpy safetensors
    python generate.py OUT_DIR

checkpoint.safetensors: the state dict of a network with several batch norms, of several element types, as
    `save_file(network.state_dict())` leaves it; and for each batch norm NAME, in eval, `test.NAME.x` and
    `test.NAME.y` (float64).
fold.safetensors: for each case NAME, the weight and bias (where there is one) of a layer in front of a batch
    norm, the batch norm's own `NAME.bn.*`, and `NAME.folded.weight` and `NAME.folded.bias` in float64. Metadata:
    `NAME` is `transposed,groups`, and `eps` that of all.
basic_block.safetensors and yolo_block.safetensors: what the batch norms, activations and sums of a ResNet's basic
    block, and of a YOLO's block of convolution, batch norm and leaky ReLU (0.1), compute in training: every output
    of a convolution, NAME.x, is an input in float32 here, and so is the gradient that reaches an output, dy (and
    in the basic block, through the second convolution, da). All else is in float64: NAME.y behind NAME's batch norm,
    activation and sum, NAME.dx, NAME.dweight, NAME.dbias, NAME.running_mean and NAME.running_var after.
"""
import pathlib
import sys

import torch
from safetensors.torch import save_file
from torch import nn

EPS = 1e-3


def randomize(bn, generator):
    """Parameters and running statistics as training leaves them: none is 0 or 1."""
    def uniform(low, high):
        return torch.rand(bn.num_features, generator=generator, dtype=torch.float64) * (high - low) + low
    with torch.no_grad():
        bn.weight.copy_(uniform(0.5, 1.5))
        bn.bias.copy_(uniform(-1, 1))
        bn.running_mean.copy_(uniform(-2, 2))
        bn.running_var.copy_(uniform(0.1, 4))
        bn.num_batches_tracked.fill_(int(torch.randint(1, 1000, (), generator=generator)))


class Block(nn.Module):
    """The layers of a ResNet's basic block, of which only the names matter here."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(6, dtype=torch.float64)
        self.downsample = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6, dtype=torch.bfloat16))


def checkpoint(path, generator):
    network = nn.Sequential()
    network.add_module("bn1", nn.BatchNorm2d(3, dtype=torch.float16))
    network.add_module("layer1", nn.Sequential(Block()))
    tensors = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            randomize(module, generator)
            exact = nn.BatchNorm2d(module.num_features, dtype=torch.float64)
            exact.load_state_dict(module.state_dict())
            x = torch.randn(2, module.num_features, 3, 5, generator=generator)
            tensors[f"test.{name}.x"] = x
            tensors[f"test.{name}.y"] = exact.eval()(x.double()).detach()
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # As files from before PyTorch 0.4.1 are.
    del state["layer1.0.bn2.num_batches_tracked"]
    save_file(state | tensors, path)


def fold(path, generator):
    cases = {
        "linear": nn.Linear(5, 4),
        "conv1d": nn.Conv1d(3, 4, 5, bias=False),
        "conv2d": nn.Conv2d(3, 8, (3, 2)),
        "grouped": nn.Conv2d(6, 4, 3, groups=2),
        "depthwise": nn.Conv2d(4, 4, 3, groups=4, bias=False),
        "conv3d": nn.Conv3d(2, 3, 2),
        "transposed": nn.ConvTranspose2d(3, 5, 3),
        "transposed_grouped": nn.ConvTranspose2d(6, 9, (2, 3), groups=3, bias=False),
        "transposed1d": nn.ConvTranspose1d(4, 6, 2, groups=2),
    }
    tensors, metadata = {}, {"eps": str(EPS)}
    for name, layer in cases.items():
        transposed, groups = getattr(layer, "transposed", False), getattr(layer, "groups", 1)
        outputs = layer.out_features if name == "linear" else layer.out_channels
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        bn = nn.BatchNorm1d(outputs, eps=EPS)
        randomize(bn, generator)
        tensors[f"{name}.weight"] = layer.weight.detach().clone()
        if layer.bias is not None:
            tensors[f"{name}.bias"] = layer.bias.detach().clone()
        tensors |= {f"{name}.bn.{key}": value.clone() for key, value in bn.state_dict().items()}

        layer, bn = layer.double(), bn.double().eval()
        scale = bn.weight / torch.sqrt(bn.running_var + EPS)
        weight = layer.weight
        if transposed:
            # [in, out / groups, ...]: the groups are beside each other in the inputs, and count the outputs on.
            parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
            folded = parts * scale.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
            folded = folded.reshape(weight.shape)
        else:
            folded = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        bias = layer.bias if layer.bias is not None else torch.zeros(outputs, dtype=torch.float64)
        bias = (bias - bn.running_mean) * scale + bn.bias

        # PyTorch itself must find both alike.
        inputs = layer.in_features if name == "linear" else layer.in_channels
        x = torch.randn(7, inputs, *[6] * (weight.dim() - 2), generator=generator, dtype=torch.float64)
        wanted = layer(x)
        wanted = bn(wanted.flatten(2)).reshape(wanted.shape) if wanted.dim() > 2 else bn(wanted)
        with torch.no_grad():
            layer.weight.copy_(folded)
            if layer.bias is None:
                layer.bias = nn.Parameter(bias)
            else:
                layer.bias.copy_(bias)
        torch.testing.assert_close(layer(x), wanted, rtol=1e-12, atol=1e-12)

        tensors[f"{name}.folded.weight"], tensors[f"{name}.folded.bias"] = folded.detach(), bias.detach()
        metadata[name] = f"{str(transposed).lower()},{groups}"
    save_file(tensors, path, metadata)


class Part:
    """A batch norm of a block, in float64, and its input in float32."""

    def __init__(self, name, x, generator):
        self.name, self.x = name, x.detach().float()
        self.bn = nn.BatchNorm2d(x.shape[1])
        randomize(self.bn, generator)
        self.before = {f"{name}.{key}": value.clone() for key, value in self.bn.state_dict().items()}
        self.bn.double()
        self.input = self.x.double().requires_grad_()
        self.normalized = self.bn(self.input)

    def tensors(self, y):
        after = {
            "y": y, "dx": self.input.grad, "dweight": self.bn.weight.grad, "dbias": self.bn.bias.grad,
            "after.running_mean": self.bn.running_mean, "after.running_var": self.bn.running_var,
        }
        after = {f"{self.name}.{key}": value.detach().clone() for key, value in after.items()}
        return {f"{self.name}.x": self.x} | self.before | after


def basic_block(path, generator):
    images = torch.randn(3, 6, 9, 7, generator=generator)
    conv1, conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 3, padding=1, bias=False)
    downsample = nn.Conv2d(6, 8, 1, bias=False)
    with torch.no_grad():
        for layer in conv1, conv2, downsample:
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / layer.weight[0].numel() ** 0.5)
    first = Part("bn1", conv1(images), generator)
    a = first.normalized.relu()
    second = Part("bn2", conv2(a.detach().float()), generator)
    shortcut = Part("downsample", downsample(images), generator)
    y = (second.normalized + shortcut.normalized).relu()
    dy = torch.randn(y.shape, generator=generator)
    y.backward(dy.double())
    da = torch.nn.grad.conv2d_input(a.shape, conv2.weight.detach(), second.input.grad.float(), padding=1)
    a.backward(da.double())
    tensors = first.tensors(a) | second.tensors(y) | shortcut.tensors(shortcut.normalized) | {"dy": dy, "da": da}
    save_file(tensors, path)


def yolo_block(path, generator):
    images = torch.rand(2, 3, 13, 13, generator=generator)
    conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
    part = Part("bn", conv(images), generator)
    y = nn.functional.leaky_relu(part.normalized, 0.1)
    dy = torch.randn(y.shape, generator=generator)
    y.backward(dy.double())
    save_file(part.tensors(y) | {"dy": dy}, path)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    checkpoint(folder / "checkpoint.safetensors", torch.Generator().manual_seed(1))
    fold(folder / "fold.safetensors", torch.Generator().manual_seed(2))
    basic_block(folder / "basic_block.safetensors", torch.Generator().manual_seed(3))
    yolo_block(folder / "yolo_block.safetensors", torch.Generator().manual_seed(4))


if __name__ == "__main__":
    main()
