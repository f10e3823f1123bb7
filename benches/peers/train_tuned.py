#!/usr/bin/env python3
"""The same step as somebody who knows PyTorch well writes it: images as one tensor, batched augmentation, one forward
over all views and one over the mixed batch, bf16 autocast where the processor computes in it, channels_last, fused Adam, the
moving average in one call."""

import copy
import os
import pathlib

import numpy
import torch
from torch.nn import functional as F

from wrn import Wrn, arguments, freeze_statistics, timed


def normal(batch):
    """uint8 [B, H, W, 3] → float [B, 3, H, W] in −1…1, channels_last."""
    return batch.float().div_(127.5).sub_(1.0).permute(0, 3, 1, 2)


def computes_in_bf16(device):
    """Where a CPU has no instruction for it, or oneDNN is held back from it, libtorch emulates bf16, more slowly than it computes in float32."""
    held_back = "AVX2" in os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return device.type == "cuda" or not held_back and "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()


class Tuned:
    """MixMatch (arXiv 1905.02249) on images [N, H, W, 3] and labels [N], both on the device; `labelled` and `unlabelled` are rows."""

    def __init__(self, network, images, labels, labelled, unlabelled, batch, k=2, lambda_u=15.0, ramp=1024):
        self.images, self.labels, self.labelled, self.unlabelled = images, labels, labelled, unlabelled
        self.batch, self.k, self.lambda_u, self.ramp, self.steps = batch, k, lambda_u, ramp, 0
        self.device, self.side, self.classes = images.device, images.shape[1], int(labels.max()) + 1
        self.model = Wrn(network, self.classes).to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.002, fused=True)
        self.beta = torch.distributions.Beta(*torch.full((2,), 0.75, device=self.device))
        self.line = torch.arange(self.side, device=self.device)
        self.model.train()
        self.bf16 = computes_in_bf16(self.device)

    def augment(self, batch):
        """Reflected, cropped, mirrored, each image anew."""
        count, last = len(batch), self.side - 1
        y, x = self.line + torch.randint(-4, 5, (2, count, 1), device=self.device)
        y, x = (last - (last - i.abs()).abs() for i in (y, x))
        mirrored = torch.rand(count, 1, device=self.device) < 0.5
        x = torch.where(mirrored, last - x, x)
        each = torch.arange(count, device=self.device)[:, None, None]
        return normal(batch[each, y[:, :, None], x[:, None, :]])

    def pick(self, rows):
        return rows[torch.randint(0, len(rows), (self.batch,), device=self.device)]

    def step(self):
        model, device, k = self.model, self.device, self.k
        mine = self.pick(self.labelled)
        y = F.one_hot(self.labels[mine], self.classes).float()
        x = self.augment(self.images[mine])
        views = self.augment(self.images[self.pick(self.unlabelled)].repeat(k, 1, 1, 1))
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            freeze_statistics(model, True)
            guess = torch.softmax(model(views).float(), 1).view(k, -1, self.classes).mean(0)
            freeze_statistics(model, False)
            guess = guess**2
            guess = guess / guess.sum(1, keepdim=True)
        inputs = torch.cat([x, views])
        targets = torch.cat([y, guess.repeat(k, 1)])
        mix = self.beta.sample((len(inputs), 1))
        mix = torch.maximum(mix, 1 - mix)
        order = torch.randperm(len(inputs), device=device)
        inputs = torch.lerp(inputs[order], inputs, mix[:, :, None, None])
        targets = torch.lerp(targets[order], targets, mix)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(inputs).float()
        count = len(x)
        loss_x = -(F.log_softmax(logits[:count], 1) * targets[:count]).sum(1).mean()
        loss_u = ((torch.softmax(logits[count:], 1) - targets[count:]) ** 2).mean()
        loss = loss_x + self.lambda_u * min(1.0, self.steps / self.ramp) * loss_u
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            kernels = [p for p in model.parameters() if p.dim() > 1]
            torch._foreach_mul_(kernels, 1 - 0.02 * 0.002)
            torch._foreach_lerp_(list(self.average.parameters()), list(model.parameters()), 0.001)
            for ours, theirs in zip(self.average.buffers(), model.buffers()):
                ours.copy_(theirs)
        self.steps += 1
        return loss.detach()


def main():
    args = arguments()
    device = torch.device(args.device)
    data = numpy.load(args.data)
    images = torch.from_numpy(data["images"]).to(device)
    labels = torch.from_numpy(data["labels"].astype(numpy.int64)).to(device)
    rows = torch.arange(len(images), device=device)
    timed(Tuned(args.network, images, labels, rows, rows, args.batch, args.k).step, args)


if __name__ == "__main__":
    main()
