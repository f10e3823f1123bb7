#!/usr/bin/env python3
"""Bare engines on our networks: images a second at some batch sizes, printed as `mixmatch bench engine --json` prints.

    engine.py --engine openvino-bf16 --network wide_resnet50_2 --size 96 --batch 1,16

Engines: torch (float32 as it comes), torch-bf16 (bf16, channels_last), onnxruntime (float32), openvino (float32),
openvino-bf16. Random weights: speed does not depend on them."""

import argparse
import json
import os
import statistics
import tempfile
import time

import torch

from engine_network import network


def torch_engine(model, example, threads, bf16, device):
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    model, images = model.to(device), example
    if bf16:
        model = model.to(torch.bfloat16).to(memory_format=torch.channels_last)
        images = images.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)

    def run():
        with torch.inference_mode():
            return torch.softmax(model(images.to(device)).float(), 1).cpu()

    return run


def onnxruntime_engine(model, example, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "model.onnx")
        torch.onnx.export(model, (example,), path, input_names=["x"], dynamo=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"x": example.numpy()}
    return lambda: session.run(None, feed)


def openvino_engine(model, example, threads, precision):
    import openvino

    converted = openvino.convert_model(model, example_input=example, input=list(example.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()
    feed = {0: example.numpy()}
    return lambda: request.infer(feed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", required=True)
    parser.add_argument("--network", default="wrn-28-2")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="for torch and torch-bf16")
    parser.add_argument("--rounds", type=int, default=50)
    args = parser.parse_args()
    torch.manual_seed(0)
    times = []
    for batch in map(int, args.batch.split(",")):
        model, example = network(args.network), torch.randn(batch, 3, args.size, args.size)
        run = {
            "torch": lambda: torch_engine(model, example, args.threads, False, args.device),
            "torch-bf16": lambda: torch_engine(model, example, args.threads, True, args.device),
            "onnxruntime": lambda: onnxruntime_engine(model, example, args.threads),
            "openvino": lambda: openvino_engine(model, example, args.threads, "f32"),
            "openvino-bf16": lambda: openvino_engine(model, example, args.threads, "bf16"),
        }[args.engine]()
        for _ in range(-(-args.rounds // 5)):
            run()
        measured = []
        for _ in range(args.rounds):
            at = time.perf_counter()
            run()
            measured.append((time.perf_counter() - at) * 1e3)
        batch_ms = statistics.median(measured)
        times.append({"batch": batch, "images_per_second": batch * 1e3 / batch_ms, "batch_ms": batch_ms})
    print(json.dumps({"network": args.network, "size": args.size, "engine": args.engine, "batches": times}))


main()
