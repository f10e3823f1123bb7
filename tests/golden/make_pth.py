#!/usr/bin/env python3
"""Small .pth files as PyTorch writes them, and some that must be refused. Written to tests/golden/pth/.

Run:  python make_pth.py            (torch 2.11.x; the bytes may differ between versions of PyTorch, their meaning may not)

zip.pth           the state dict below, torch.save's ZIP archive (since 1.6)
plain.pth         the same in the format before 1.6: pickles, then raw numbers
nested.pth        the same under "state_dict" beside an epoch and an optimiser's state
training.pth      the same beside a figure that is a tensor, as training scripts save it
protocol4.pth     the same with pickle protocol 4 (memoize, stack_global, frames)
data.pkl          the pickle inside zip.pth
list.pth          a list: no state dict
expanded.pth      a tensor of 1,000,000 numbers over a storage of one (stride 0)
malicious.pth     its pickle calls os.system("true"); whole_module.pth: a pickled nn.Module; eval.pth: calls eval
"""
import collections
import os
import zipfile

import torch

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pth")


class Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def state_dict():
    base = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    pair = torch.tensor([1.5, -2.0])
    image = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    tensors = collections.OrderedDict(
        float=base, transposed=base.t(), slice=base[1, 1:], double=pair.double(), half=pair.half(),
        bfloat16=pair.bfloat16(), channels_last=image, scalar=torch.tensor(7.0), empty=torch.zeros(0),
        long=torch.tensor(3))
    tensors._metadata = collections.OrderedDict([("", {"version": 1})])  # as nn.Module.state_dict has it
    return tensors


def save(name, value, **options):
    torch.save(value, os.path.join(HERE, name), **options)


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    tensors = state_dict()
    save("zip.pth", tensors)
    save("plain.pth", tensors, _use_new_zipfile_serialization=False)
    moments = {"state": {0: {"step": 5, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}
    save("nested.pth", {"epoch": 5, "best": None, "state_dict": tensors, "optimizer": moments, "done": True})
    save("training.pth", {"epoch": 5, "best_acc1": torch.tensor(76.3), "state_dict": tensors})
    save("protocol4.pth", tensors, pickle_protocol=4)
    save("list.pth", [torch.ones(1)])
    save("expanded.pth", {"expanded": torch.ones(1).expand(1_000_000)})
    save("malicious.pth", {"a": torch.ones(1), "b": Calls(os.system, "true")})
    save("eval.pth", {"a": torch.ones(1), "b": Calls(eval, "1 + 1")}, _use_new_zipfile_serialization=False)
    save("whole_module.pth", torch.nn.Linear(2, 2))
    with zipfile.ZipFile(os.path.join(HERE, "zip.pth")) as archive:
        with open(os.path.join(HERE, "data.pkl"), "wb") as file:
            file.write(archive.read("zip/data.pkl"))
    for name in sorted(os.listdir(HERE)):
        print(name, os.path.getsize(os.path.join(HERE, name)))
