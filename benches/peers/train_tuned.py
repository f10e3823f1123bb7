#!/usr/bin/env python3
"""The same step as somebody who knows PyTorch well writes it: images as one tensor, batched augmentation, one forward
over all views and one over the mixed batch, bf16 autocast, channels_last, fused Adam, the moving average in one call."""

import copy

import numpy
import torch
from torch.nn import functional as F

from wrn import Wrn, arguments, freeze_statistics, timed


def main():
    args = arguments()
    device = torch.device(args.device)
    data = numpy.load(args.data)
    images = torch.from_numpy(data["images"]).to(device)
    labels = torch.from_numpy(data["labels"].astype(numpy.int64)).to(device)
    classes, side = int(labels.max()) + 1, images.shape[1]
    rows = torch.arange(side, device=device)
    model = Wrn(args.network, classes).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002, fused=True)
    model.train()
    beta = torch.distributions.Beta(*torch.full((2,), 0.75, device=device))
    steps = 0

    def augment(batch):
        """uint8 [B, H, W, 3] → float [B, 3, H, W], channels_last: reflected, cropped, mirrored, each image anew."""
        count = len(batch)
        dy, dx = torch.randint(-4, 5, (2, count, 1), device=device)
        y, x = rows + dy, rows + dx
        y, x = ((side - 1) - (side - 1 - i.abs()).abs() for i in (y, x))
        mirrored = torch.rand(count, 1, device=device) < 0.5
        x = torch.where(mirrored, side - 1 - x, x)
        each = torch.arange(count, device=device)[:, None, None]
        batch = batch[each, y[:, :, None], x[:, None, :]]
        return batch.float().div_(127.5).sub_(1.0).permute(0, 3, 1, 2)

    def step():
        nonlocal steps
        take = torch.randint(0, len(images), (2, args.batch), device=device)
        y = F.one_hot(labels[take[0]], classes).float()
        x = augment(images[take[0]])
        views = augment(images[take[1]].repeat(args.k, 1, 1, 1))
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            freeze_statistics(model, True)
            guess = torch.softmax(model(views).float(), 1).view(args.k, -1, classes).mean(0)
            freeze_statistics(model, False)
            guess = guess**2
            guess = guess / guess.sum(1, keepdim=True)
        inputs = torch.cat([x, views])
        targets = torch.cat([y, guess.repeat(args.k, 1)])
        mix = beta.sample((len(inputs), 1))
        mix = torch.maximum(mix, 1 - mix)
        order = torch.randperm(len(inputs), device=device)
        inputs = torch.lerp(inputs[order], inputs, mix[:, :, None, None])
        targets = torch.lerp(targets[order], targets, mix)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(inputs).float()
        count = len(x)
        loss_x = -(F.log_softmax(logits[:count], 1) * targets[:count]).sum(1).mean()
        loss_u = ((torch.softmax(logits[count:], 1) - targets[count:]) ** 2).mean()
        loss = loss_x + 15.0 * min(1.0, steps / 1024) * loss_u
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            kernels = [p for p in model.parameters() if p.dim() > 1]
            torch._foreach_mul_(kernels, 1 - 0.02 * 0.002)
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.001)
            for ours, theirs in zip(average.buffers(), model.buffers()):
                ours.copy_(theirs)
        steps += 1
        return loss.detach()

    timed(step, args)


main()
