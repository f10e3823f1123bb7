#!/usr/bin/env python3
"""Import (decode, check, hash, pack) on one core against torchvision's ImageFolder with Resize on one core, in turn.

    benches/import.py --peers PYTHON

Ours does more than the peer: every image is checked, hashed twice (exactly and by its likeness) and compared with all
others, and a packed file is written and synced."""

import argparse
import csv
import json
import os
import pathlib
import statistics
import tempfile
import time
import zipfile

from serving import ROOT, data_set, run

PEER = """
import sys, time, json, numpy
from torchvision import datasets, transforms
transform = transforms.Compose([transforms.Resize((32, 32)), transforms.PILToTensor()])
at = time.perf_counter()
folder = datasets.ImageFolder(sys.argv[1], transform)
packed = numpy.stack([folder[index][0].numpy() for index in range(len(folder))])
print(json.dumps({"images": len(packed), "seconds": time.perf_counter() - at}))
"""


def main():
    data = data_set("gender_aaf")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=os.environ.get("PEERS", ROOT / "target/peers/bin/python"))
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--images", default=data / "images.zip")
    parser.add_argument("--sheet", default=data / "train.csv")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    pin = lambda: os.sched_setaffinity(0, {core})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        rows = list(csv.DictReader(open(args.sheet, newline="")))
        with zipfile.ZipFile(args.images) as archive:
            where = {pathlib.PurePosixPath(path).name: path for path in archive.namelist()}
            for row in rows:
                folder = scratch / "folder" / row["label"]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / row["image"]).write_bytes(archive.read(where[row["image"]]))
        speeds, whole = {"ours": [], "torchvision": []}, {"ours": [], "torchvision": []}
        for turn in range(args.rounds):
            for name in list(speeds) if turn % 2 == 0 else list(speeds)[::-1]:
                if name == "ours":
                    command = [args.binary, "import", "--data-dir", scratch / f"data{turn}", "--name", "bench", "--task", "bench"]
                    command += ["--images", args.images, "--train", args.sheet, "--json"]
                else:
                    command = [args.peers, "-c", PEER, scratch / "folder"]
                at = time.perf_counter()
                told = json.loads(run(command, preexec_fn=pin, env=environment).splitlines()[-1])
                whole[name].append(len(rows) / (time.perf_counter() - at))
                speeds[name].append(len(rows) / told["seconds"])
    print(f"{len(rows)} images on one core, {args.rounds} rounds; images/s")
    for what, of in {"the import alone": speeds, "the whole command": whole}.items():
        ratios = [a / b for a, b in zip(of["ours"], of["torchvision"])]
        middle = {name: statistics.median(values) for name, values in of.items()}
        print(
            f"{what:18} ours {middle['ours']:7.0f}, torchvision {middle['torchvision']:7.0f}: "
            f"ours is {statistics.median(ratios):.2f}× ({min(ratios):.2f} to {max(ratios):.2f})"
        )


main()
