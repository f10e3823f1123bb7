#!/usr/bin/env python3
"""Ours against both PyTorch peers: the same step on the same images, batch and threads, in turn.

    make bench                                    # builds, prepares the peers, runs this and the other benchmarks
    benches/train.py --peers PYTHON --rounds 5    # needs ../shared/data or --images ZIP --sheet CSV

Each round runs all three, in an order that changes, so that a busy minute hits all alike. The ratio is the median over
the rounds of each round's own ratio. Look at the load first: beside a busy neighbour no figure means much."""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile

from serving import ROOT, clean_sheet, data_set, imported, run

PEERS = ROOT / "benches" / "peers"

# Runs in the peers' Python, which has numpy and Pillow: the images that we import, as one array.
ARRAY = """
import io, json, sys, zipfile, numpy
from PIL import Image
archive, rows, size, out = sys.argv[1:5]
rows = json.load(open(rows))
names = sorted({label for _, label in rows})
with zipfile.ZipFile(archive) as images:
    picture = lambda path: Image.open(io.BytesIO(images.read(path))).convert("RGB").resize((int(size),) * 2)
    pixels = numpy.stack([numpy.asarray(picture(path)) for path, _ in rows])
numpy.savez(out, images=pixels, labels=numpy.array([names.index(label) for _, label in rows]))
"""

# In the peers' Python too: a ZIP of noise and its sheet.
NOISE = """
import csv, io, sys, zipfile, numpy
from PIL import Image
archive, sheet = sys.argv[1:3]
random = numpy.random.default_rng(0)
with zipfile.ZipFile(archive, "w") as images, open(sheet, "w", newline="") as rows:
    writer = csv.writer(rows)
    writer.writerow(["image", "label"])
    for number in range(600):
        picture = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (96, 96, 3), dtype=numpy.uint8)).save(picture, "JPEG")
        images.writestr(f"{number}.jpg", picture.getvalue())
        writer.writerow([f"{number}.jpg", "ab"[number % 2]])
"""


def main():
    data = data_set("mask")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=os.environ.get("PEERS", ROOT / "target/peers/bin/python"))
    parser.add_argument("--binary", default=ROOT / "target/release/mixmatch")
    parser.add_argument("--images", default=data / "images.zip", help="a ZIP of images")
    parser.add_argument("--sheet", default=data / "train.csv", help="its sheet, with columns image and label")
    parser.add_argument("--network", default="wrn-28-2")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--k", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu", help="cpu or cuda:<index>")
    parser.add_argument("--noise", action="store_true", help="time on noise instead of images: speed does not depend on them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", action="append", default=[], choices=["plain", "tuned"])
    parser.add_argument("--workers", type=int, default=0, help="worker processes of the plain peer's DataLoader")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    # Each waits as it does by itself: PyTorch's threads spin, which is the fastest on a quiet machine, ours for a moment only.
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        sheet, rows, array = scratch / "train.csv", scratch / "rows.json", scratch / "images.npz"
        if args.noise:
            args.images, args.sheet = scratch / "images.zip", scratch / "all.csv"
            run([args.peers, "-c", NOISE, args.images, args.sheet])
        # Enough to time steps on.
        wanted = clean_sheet(args.images, args.sheet, sheet, most=2000)
        told = imported(args.binary, scratch / "data", args.images, sheet)
        left_out = {row["image"] for row in told["report"]["rejected"]}
        rows.write_text(json.dumps([row for row in wanted if row[0] not in left_out]))
        run([args.peers, "-c", ARRAY, args.images, rows, args.size, array])
        (dataset,) = (scratch / "data" / "datasets").iterdir()
        same = ["--network", args.network, "--batch", args.batch, "--k", args.k, "--steps", args.steps]
        same += ["--threads", args.threads, "--device", args.device]
        ours = [args.binary, "bench", "train", "--dataset-dir", dataset, "--size", args.size, *same, "--json"]
        peer = lambda name: [args.peers, PEERS / f"train_{name}.py", "--data", array, *same]
        commands = {"ours": ours}
        commands |= {name: peer(name) for name in ("plain", "tuned") if name not in args.without}
        if "plain" in commands:
            commands["plain"] += ["--workers", args.workers]
        results = {name: [] for name in commands}
        for turn in range(args.rounds):
            for name in list(commands) if turn % 2 == 0 else list(commands)[::-1]:
                figures = json.loads(run(commands[name], env=environment).splitlines()[-1])
                results[name].append(figures)
                print(f"round {turn + 1}: {name:6} {figures['labelled_images_per_second']:8.1f}", file=sys.stderr)

    median = lambda name, key: statistics.median(figures[key] for figures in results[name])
    table = {"settings": {key: str(value) for key, value in vars(args).items()}, "phases_ms": results["ours"][-1]["phases_ms"]}
    table["machine"] = results["ours"][0]["machine"]
    for name in results:
        speeds = [figures["labelled_images_per_second"] for figures in results[name]]
        ratios = [a["labelled_images_per_second"] / b for a, b in zip(results["ours"], speeds)]
        table[name] = {
            "labelled_images_per_second": statistics.median(speeds),
            "ours_is": statistics.median(ratios),
            "lowest_and_highest": [min(ratios), max(ratios)],
            "peak_resident_mib": median(name, "peak_resident_mib"),
            "device_mib": median(name, "device_mib"),
        }
    if args.json:
        return print(json.dumps(table))
    print(f"{args.network} {args.size}×{args.size} B={args.batch} K={args.k}, {args.device}, {args.threads} threads, {args.rounds} rounds")
    print(f"{'':8}{'labelled images/s':>20}{'ours is':>10}{'(from to)':>16}{'peak MiB':>10}{'on the GPU':>12}")
    for name in results:
        row = table[name]
        low, high = row["lowest_and_highest"]
        print(
            f"{name:8}{row['labelled_images_per_second']:>20.1f}{row['ours_is']:>10.2f}"
            f"{f'{low:.2f} to {high:.2f}':>16}{row['peak_resident_mib']:>10.0f}{row['device_mib']:>12.0f}"
        )
    print("ours, ms a step: " + ", ".join(f"{name} {ms:.1f}" for name, ms in table["phases_ms"].items()))


main()
