#!/usr/bin/env python3
"""Does the unlabelled half pay? Label counts × algorithms × seeds on the real data sets, through POST /jobs.

    make build && scripts/label_counts.py --out /tmp/label-counts

Starts target/release/mixmatch with two CPU slots (one thread each) on a data directory of its own, imports the data sets of
../shared/data and queues one sweep after another; what `GET /jobs/{id}/report` says of each is printed and kept under --out.
Interrupted, it goes on where it stopped: the server's queue and the sweeps, each with what was asked for, lie in --out; another
request under the same name needs another --out. Needs Python 3.10.

Stages (--stages, in this order):
  labels     supervised and MixMatch on the same labels, the same number of steps
  unmixed    MixMatch without mixup
  time       supervised for the time that MixMatch took: --time-ratio times the steps
  ceiling    supervised with every label outside the validation split
  ablation   one thing changed at a time, on --ablation-set with --ablation-labels; with --ablation-steps of a whole run. Ends
             with a table of them all: mean ± sd over the seeds, and the difference from the preset, paired by seed; --ablation-only
             names some of them
"""
import argparse
import json
import os
import statistics
import sys
import time
import urllib.request

from real_data import ROOT, call, import_set, start

SETS = {"mask": ("mask", [20, 40, 100]), "gender": ("gender_aaf", [100, 250, 1000])}
ABLATIONS = {
    "as the preset": {},
    "K = 2, the same arithmetic (0.64 of the steps)": {"k": 2, "steps_share": 0.64},
    "T = 1": {"temperature": 1.0},
    "no mixup": {"mixup": False},
    "EMA off (decay 0)": {"ema_decay": 0.0, "guess_from": "raw"},
    "guesses from the raw weights": {"guess_from": "raw"},
    "no alignment": {"align": False},
    "no anchoring: guess on the strong views": {"anchor": False},
    "λ_u 10": {"lambda_u": 10},
    "λ_u 30": {"lambda_u": 30},
    "ramp over the whole run": {"ramp": 1.0},
    "no warm-up": {"warmup": 0.0},
    "flip and crop alone": {"anchor": False, "augment_brightness": 0, "augment_contrast": 0, "augment_saturation": 0,
                            "augment_rotation": 0, "augment_scale": 0},
    "K = 2, the same number of steps": {"k": 2},
}


def markdown(base, job):
    request = urllib.request.Request(f"{base}/jobs/{job}/report", headers={"accept": "text/markdown"})
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


class Bench:
    def __init__(self, base, out, settings):
        self.base, self.out, self.settings = base, out, settings
        self.path = os.path.join(out, "sweeps.json")
        self.known = {}
        if os.path.exists(self.path):
            with open(self.path) as file:
                self.known = json.load(file)

    def id(self, name):
        return self.known[name]["id"]

    def queue(self, name, request):
        """Queues a sweep once, however often the script is started."""
        # As it is read again: without the difference between a list and a tuple.
        request = json.loads(json.dumps({**self.settings, **request}))
        if name not in self.known:
            self.known[name] = {"id": call(self.base, "POST", "/jobs", json.dumps(request).encode())["id"], "request": request}
            # Whole or not at all: without it the sweeps would be queued again.
            with open(self.path + ".new", "w") as file:
                json.dump(self.known, file, indent=1)
            os.replace(self.path + ".new", self.path)
        earlier = self.known[name]
        if not isinstance(earlier, dict):
            sys.exit(f"{self.path} is of an earlier version, which did not keep what was asked for: take another --out")
        if earlier["request"] != request:
            sys.exit(f"{name} in {self.path} was asked for otherwise: take another --out\n"
                     f"  then {json.dumps(earlier['request'])}\n  now  {json.dumps(request)}")

    def steps_per_epoch(self, dataset):
        """Of the preset, with --set over it: asked of a job that is taken back at once."""
        if "steps_per_epoch" in self.settings:
            return self.settings["steps_per_epoch"]
        job = call(self.base, "POST", "/jobs", json.dumps({**self.settings, "dataset": dataset, "seed": 0}).encode())
        path = f"/jobs/{job['id']}"
        if job["state"] in ("queued", "running"):
            call(self.base, "POST", path + "/cancel")
        while call(self.base, "GET", path)["state"] in ("queued", "running"):
            time.sleep(0.2)
        call(self.base, "DELETE", path)
        return job["config"]["steps_per_epoch"]

    def wait(self, names):
        for name in names:
            job = self.id(name)
            while (state := call(self.base, "GET", f"/jobs/{job}")["state"]) in ("queued", "running"):
                time.sleep(2)
            text = markdown(self.base, job)
            with open(os.path.join(self.out, f"{name}.md"), "w") as file:
                file.write(text)
            print(f"\n## {name}: {state}\n\n{text}", flush=True)

    def ablations(self, chosen):
        """The table of what was changed: accuracies, and how far each seed's test accuracy is from the preset's own."""
        reached = {}
        for number, what in chosen:
            jobs = call(self.base, "GET", f"/jobs/{self.id(f'ablation-{number:02}')}")["jobs"]
            reached[what] = {job["seed"]: job for job in jobs if job["state"] == "succeeded"}, len(jobs)
        preset, _ = next(iter(reached.values()))
        # A run that collapsed has no figures: the means are those of the others, and the column says how many these are.
        lines = ["| what | succeeded | validation | test | against the preset | seeds behind it |", "|---|---|---|---|---|---|"]
        for what, (jobs, asked) in reached.items():
            paired = [job["test_accuracy"] - preset[seed]["test_accuracy"] for seed, job in jobs.items() if seed in preset]
            behind = f"{sum(difference < 0 for difference in paired)} of {len(paired)}"
            cells = [spread([job[figure] for job in jobs.values()]) for figure in ("validation_accuracy", "test_accuracy")]
            cells += ["–", "–"] if jobs is preset else [spread(paired, "+.4f"), behind]
            lines.append(f"| {what} | {len(jobs)} of {asked} | {' | '.join(cells)} |")
        return "\n".join(lines)


def spread(values, form=".4f"):
    """Mean ± sample standard deviation, as far as there are values."""
    if not values:
        return "–"
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.path.join(ROOT, "target/release/mixmatch"))
    parser.add_argument("--data", default=os.path.join(ROOT, "../shared/data"))
    parser.add_argument("--out", required=True)
    parser.add_argument("--stages", default="labels,unmixed,time,ceiling,ablation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--time-ratio", type=float, default=1.67)
    parser.add_argument("--ablation-set", choices=SETS, default="gender")
    parser.add_argument("--ablation-labels", type=int, default=250)
    parser.add_argument("--ablation-steps", type=float, default=1.0)
    parser.add_argument("--ablation-only", nargs="+", choices=list(ABLATIONS), metavar="NAME", help=f"of {', '.join(ABLATIONS)}")
    parser.add_argument("--port", type=int, default=0, help="of the server; a free one if absent")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="NAME=JSON, over the preset")
    args = parser.parse_args()
    settings = {name: json.loads(value) for name, value in (setting.split("=", 1) for setting in args.settings)}

    # A sweep is known by its place among all of them, whichever were asked for.
    only = args.ablation_only or ABLATIONS
    chosen = [(number, what) for number, what in enumerate(ABLATIONS) if what in only or number == 0]

    os.makedirs(args.out, exist_ok=True)
    data_dir = os.path.join(args.out, "data")
    os.makedirs(data_dir, exist_ok=True)
    base, server, _ = start(args.binary, data_dir, args.port, ["--devices", "cpu,cpu"])
    try:
        bench = Bench(base, args.out, settings)
        have = {item["name"] for item in call(base, "GET", "/datasets")["items"]}
        for name, (folder, _) in SETS.items():
            if name not in have:
                import_set(base, name, os.path.join(args.data, folder))
        stages = args.stages.split(",")
        steps = bench.steps_per_epoch(args.ablation_set) if {"time", "ablation"} & set(stages) else None
        names = []

        def queue(name, **request):
            bench.queue(name, {"seed": args.seeds, **request})
            names.append(name)

        for stage in stages:
            for name, (_, labels) in SETS.items():
                if stage == "labels":
                    queue(f"labels-{name}", dataset=name, labelled=labels, baseline=True)
                elif stage == "unmixed":
                    queue(f"unmixed-{name}", dataset=name, labelled=labels, algorithm="mixmatch", mixup=False)
                elif stage == "time":
                    queue(f"time-{name}", dataset=name, labelled=labels, algorithm="supervised",
                          steps_per_epoch=round(steps * args.time_ratio))
                elif stage == "ceiling":
                    queue(f"ceiling-{name}", dataset=name, algorithm="supervised")
            if stage == "ablation":
                for number, what in chosen:
                    change = dict(ABLATIONS[what])
                    share = args.ablation_steps * change.pop("steps_share", 1.0)
                    bench.queue(f"ablation-{number:02}", {"dataset": args.ablation_set, "labelled": args.ablation_labels,
                                                          "seed": args.seeds, "steps_per_epoch": round(steps * share), **change})
                    names.append(f"ablation-{number:02}")
                    print(f"ablation-{number:02}: {what}", flush=True)
        bench.wait(names)
        if "ablation" in stages:
            print(f"\n## Ablations: {args.ablation_set}, {args.ablation_labels} labels, seeds {args.seeds}\n\n{bench.ablations(chosen)}", flush=True)
    finally:
        server.terminate()
        print("server ended with", server.wait())


if __name__ == "__main__":
    sys.exit(main())
