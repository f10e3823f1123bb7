#!/usr/bin/env python3
"""LitServe with PyTorch as its documentation shows it, with batching on: an image comes in, probabilities go out."""

import argparse
import io
import os

import litserve
import numpy
import torch
from fastapi import UploadFile
from PIL import Image

from engine_network import network


class Classifier(litserve.LitAPI):
    def __init__(self, args):
        super().__init__(max_batch_size=32, batch_timeout=0.005)
        # Of the instance: the worker is a new process, which is sent it, and has the class as it stands in this file.
        self.name, self.size, self.threads, self.bf16 = args.network, args.size, args.threads, args.bf16

    def setup(self, device):
        torch.set_num_threads(self.threads)
        self.model = network(self.name).to(device)
        self.kind = torch.bfloat16 if self.bf16 else torch.float32
        if self.bf16:
            self.model = self.model.to(torch.bfloat16).to(memory_format=torch.channels_last)
        self.device = device
        weights = next(self.model.parameters())
        # benches/serving.py reads it: what is computed, not what was asked for.
        print(f"computes {self.name} at {self.size} in {str(weights.dtype).removeprefix('torch.')}", flush=True)

    def decode_request(self, request):
        image = Image.open(io.BytesIO(request["image"].file.read())).convert("RGB").resize((self.size, self.size))
        pixels = torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1).float()
        return pixels.div_(127.5).sub_(1.0)

    def batch(self, inputs):
        batch = torch.stack(inputs).to(self.device, self.kind)
        return batch.contiguous(memory_format=torch.channels_last) if self.bf16 else batch

    def predict(self, batch):
        with torch.inference_mode():
            return torch.softmax(self.model(batch).float(), 1)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"probabilities": output.tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="wrn-28-2")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--port", type=int, default=8601)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda:0"])
    parser.add_argument("--bf16", action="store_true", help="bf16 and channels_last, which the documentation does not show")
    args = parser.parse_args()
    server = litserve.LitServer(Classifier(args), accelerator=args.device.split(":")[0], devices=1, workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=args.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
