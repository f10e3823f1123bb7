#!/usr/bin/env python3
"""Golden vectors for mixmatch: inputs and expected outputs computed by PyTorch 2.11 (CPU, float32).

Run:  python make_golden.py            (needs torch 2.11.x, numpy, safetensors; writes *.safetensors beside itself)

All values are written by plain PyTorch, independently of the Rust code under test. Every tensor is contiguous
(row-major); images in float are NCHW, images in uint8 are NHWC. Scalars are 1-element tensors of float32 unless a
name says otherwise. Indices, permutations, offsets are int64; flips are uint8 (0/1).

sharpen.safetensors         `t` = .5 (temperature). For C in {2, 10}: `c{C}.input` [6,C] probabilities (rows sum to 1;
                            row 0 is uniform, row 1 one-hot), `c{C}.expected` = p^(1/t) / sum_c p^(1/t)
guess.safetensors           `logits` [K,B,C] = [2,5,3]: the K views' logits; `mean` [B,C] = mean over K of softmax;
                            `expected` [B,C] = sharpen(mean, t). `t` = .5
                            `logits_flat` [K*B,C]: the same logits as one batch, view by view (view k = rows k*B..(k+1)*B)
mixup.safetensors           `images` [N,3,4,4], `targets` [N,C], `lambda` [N] (drawn from a Beta, before the max),
                            `permutation` [N] i64, `lambda_max` [N] = max(lambda, 1-lambda),
                            `mixed_images` = l*x + (1-l)*x[perm], `mixed_targets` likewise (l = lambda_max)
losses.safetensors          `labelled.logits` [B,C], `labelled.targets` [B,C] (soft), `labelled.loss` = mean over B of
                            -sum_c t*log_softmax, `labelled.grad` = d loss / d logits;
                            `unlabelled.logits` [K*B,C], `unlabelled.targets`, `unlabelled.loss` = mean over K*B AND C of
                            (softmax - q)^2, `unlabelled.grad`;  also for C=2 under `labelled2.*`, `unlabelled2.*`;
                            `total.lambda_u`, `total.loss` = labelled + lambda_u * unlabelled
adam.safetensors            three steps of torch.optim.Adam(lr .002, betas .9/.999, eps 1e-8, no L2), after each step
                            w <- w * (1 - wd*lr): `w0` [7], `grad1..grad3` [7], `w1..w3` (after the step and the decay),
                            `m1..m3`, `v1..v3` (Adam's exp_avg, exp_avg_sq after the step), `lr`, `wd` (.02)
ema.safetensors             `decay` [1] (.999), `ema0` [6], `params1..params3` [6], `ema1..ema3` = d*ema + (1-d)*params;
                            `warm_decay1..3` [1] and `warm_ema1..3`: the same with d = min(decay, (1+t)/(10+t)), t=0,1,2
augment.safetensors         `images` [B,8,8,3] u8 NHWC, `flip` [B] u8, `dy`,`dx` [B] i64 in 0..=2*pad, `pad` [1] i64 (4).
                            First flip left-right where flip=1, then reflect-pad by `pad` on all sides (the edge pixel is
                            not repeated: index -1 -> 1), then crop the original size starting at row dy, column dx of the
                            padded image. `expected` [B,8,8,3] u8. dy=dx=pad is the image itself.
batch_norm.safetensors      train mode, eps 1e-3, momentum .001 in torch's sense (running = .999*running + .001*batch):
                            `input` [4,3,5,5], `weight`,`bias`,`running_mean`,`running_var` [3], `output`,
                            `running_mean_after`, `running_var_after` (unbiased variance), `output_eval` (eval mode with the
                            statistics BEFORE), `grad_output`, `grad_input`, `grad_weight`, `grad_bias` (train mode)
wrn_10_1.safetensors        a whole wrn-10-1 with 2 classes. `input` [4,3,16,16], `logits_eval`, `logits_train` [4,2]
                            (train mode, batch statistics), `after.{bn name}.running_mean/var`: running statistics after
                            that one train-mode forward with momentum .001; and the weights under `net.`. To keep the
                            file small the 4-dimensional kernels are stored as FLOAT16 (the values are exactly
                            representable, so cast them to float32 after loading: nothing is lost); all else float32:
                              net.stem.weight                                        [16,3,3,3]
                              net.groups.{g}.{b}.bn1.{weight,bias,running_mean,running_var}   g = 0..2, b = 0..n-1
                              net.groups.{g}.{b}.conv1.weight                        [out,in,3,3], stride 1 (g=0) or 2 (b=0)
                              net.groups.{g}.{b}.bn2.{...}, net.groups.{g}.{b}.conv2.weight   [out,out,3,3]
                              net.groups.{g}.{b}.shortcut.weight   [out,in,1,1], only where shape or stride changes
                              net.bn.{...}, net.head.weight [C,width], net.head.bias [C]
                            `grad.{stem.weight,groups.1.0.conv1.weight,groups.1.0.shortcut.weight,head.weight,
                            groups.0.0.bn1.weight}`: gradients of mean soft-target CE (`targets` [4,2]) in train mode.
wrn4_12_1.safetensors       a whole wrn4-12-1 with 2 classes on images of 32x32, filled by `fill_network` (the images by
                            `fill("images")`), BN momentum .1. First `logits_train` [4,2] in train mode, `statistics` (every 7th
                            number) and `grad` (every 101st number of each parameter, in the order of their names) of mean
                            soft-target CE (`targets` [4,2]); then `logits_eval` with the statistics that this left.
mixmatch_step.safetensors   two whole training steps of wrn-28-2 (2 classes, 16x16, B = 4, K = 2) in float32: label guessing in train
                            mode without touching the running statistics, sharpening (T = .5), mixup with the given `lambda` [12]
                            and `permutation{1,2}` [12], L_X + `lambda_u` L_U, Adam (lr 2e-5), decay (wd 2, kernels of
                            convolutions and the head), EMA (.9). The second step guesses with the weights after the first.
                            Weights are not stored but filled by `fill` below, which tests/golden.rs repeats.
                            `x{1,2}` [4,3,16,16], `y` [4,2] one-hot, `u{1,2}` [8,3,16,16] (view by view); then after step s:
                            `q{s}` [4,2], `loss_x{s}`, `loss_u{s}`, `total{s}`, and for every 401st number of each parameter in
                            the order of their names, concatenated: `grad{s}`, `weights{s}`, `average{s}`; and the running
                            statistics the same way: `statistics{s}` (every 7th number)

Network WRN-d-k (d = 6n+4): stem 3x3 conv 3->16, three groups of n pre-activation blocks with 16k/32k/64k channels and
strides 1/2/2, final bn -> lrelu -> global average pool -> linear head. lrelu slope .1, BN eps 1e-3, no conv bias.
Block: x -> bn1 -> lrelu -> conv1 -> bn2 -> lrelu -> conv2, plus shortcut. As in google-research/mixmatch
(libml/models.py, ResNet): the very first block (g=0, b=0) takes the ACTIVATED input, lrelu(bn1(x)), for its shortcut too
(activate_before_residual); every other block's shortcut takes the raw x. All padding is 1 on every side for 3x3 (torch's
convention; TensorFlow's SAME pads stride-2 convolutions on the bottom and right only, which is not followed here).
WRN4-d-k (d = 8n+4): the same with a fourth group of 128k channels at stride 2, and stride 2 in the stem.
WRN-28-2 has 1,467,610 parameters with 10 classes and 1,466,578 with 2 (asserted below).
"""
import os
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
assert torch.__version__.startswith("2.11"), torch.__version__
torch.use_deterministic_algorithms(True)
torch.set_num_threads(1)


def save(name, tensors):
    # cloned: safetensors refuses tensors that share memory
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    for k, v in tensors.items():
        assert torch.isfinite(v.double()).all(), (name, k)
    path = os.path.join(HERE, name + ".safetensors")
    save_file(tensors, path, metadata={"torch": torch.__version__.split("+")[0]})
    print(f"{name}.safetensors  {os.path.getsize(path)} bytes  {len(tensors)} tensors")
    return os.path.getsize(path)


def scalar(x):
    return torch.tensor([x], dtype=torch.float32)


def sharpen(p, t):
    p = p ** (1.0 / t)
    return p / p.sum(dim=1, keepdim=True)


def make_sharpen():
    torch.manual_seed(1)
    out = {"t": scalar(0.5)}
    for c in (2, 10):
        p = torch.randn(6, c).mul(1.5).softmax(1)
        p[0] = 1.0 / c
        p[1] = 0.0
        p[1, c - 1] = 1.0
        out[f"c{c}.input"] = p
        out[f"c{c}.expected"] = sharpen(p, 0.5)
        assert torch.allclose(out[f"c{c}.expected"].sum(1), torch.ones(6))
    return save("sharpen", out)


def make_guess():
    torch.manual_seed(2)
    logits = torch.randn(2, 5, 3) * 2
    mean = logits.softmax(2).mean(0)
    return save("guess", {"t": scalar(0.5), "logits": logits, "logits_flat": logits.reshape(10, 3), "mean": mean,
                          "expected": sharpen(mean, 0.5)})


def make_mixup():
    torch.manual_seed(3)
    n, c = 6, 2
    x = torch.rand(n, 3, 4, 4) * 2 - 1
    t = torch.cat([F.one_hot(torch.tensor([0, 1]), c).float(), torch.randn(4, c).softmax(1)])
    lam = torch.distributions.Beta(0.75, 0.75).sample((n,))
    lam[0], lam[1] = 0.25, 0.9
    perm = torch.tensor([3, 0, 2, 5, 1, 4])
    lm = torch.maximum(lam, 1 - lam)
    mx = lm[:, None, None, None] * x + (1 - lm)[:, None, None, None] * x[perm]
    mt = lm[:, None] * t + (1 - lm)[:, None] * t[perm]
    return save("mixup", {"images": x, "targets": t, "lambda": lam, "permutation": perm, "lambda_max": lm,
                          "mixed_images": mx, "mixed_targets": mt})


def make_losses():
    torch.manual_seed(4)
    out = {}
    lu = 5.0
    for suffix, c in (("", 10), ("2", 2)):
        zl = (torch.randn(4, c) * 2).requires_grad_()
        tl = torch.randn(4, c).softmax(1)
        lx = -(tl * zl.log_softmax(1)).sum(1).mean()
        lx.backward()
        # the closed form: (softmax - t) / B
        assert torch.allclose(zl.grad, (zl.softmax(1) - tl) / 4, atol=1e-6)
        zu = (torch.randn(8, c) * 2).requires_grad_()
        tu = sharpen(torch.randn(8, c).softmax(1), 0.5)
        l2 = (zu.softmax(1) - tu).square().mean()
        l2.backward()
        assert torch.allclose(lx, F.cross_entropy(zl, tl)) and torch.allclose(l2, F.mse_loss(zu.softmax(1), tu))
        for k, (z, t, l) in {"labelled": (zl, tl, lx), "unlabelled": (zu, tu, l2)}.items():
            out |= {f"{k}{suffix}.logits": z, f"{k}{suffix}.targets": t, f"{k}{suffix}.loss": l.reshape(1),
                    f"{k}{suffix}.grad": z.grad}
        if not suffix:
            out |= {"total.lambda_u": scalar(lu), "total.loss": (lx + lu * l2).reshape(1)}
    return save("losses", out)


def make_adam():
    torch.manual_seed(5)
    lr, wd = 0.002, 0.02
    w = nn.Parameter(torch.randn(7))
    opt = torch.optim.Adam([w], lr=lr, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    out = {"w0": w.detach().clone(), "lr": scalar(lr), "wd": scalar(wd)}
    for i in (1, 2, 3):
        w.grad = torch.randn(7) * torch.tensor([1, 1, 1e-3, 10, 1, 0, 1e-6])
        out[f"grad{i}"] = w.grad.clone()
        opt.step()
        with torch.no_grad():
            w.mul_(1 - wd * lr)
        st = opt.state[w]
        out |= {f"w{i}": w.detach().clone(), f"m{i}": st["exp_avg"].clone(), f"v{i}": st["exp_avg_sq"].clone()}
    return save("adam", out)


def make_ema():
    torch.manual_seed(6)
    d = 0.999
    e = torch.randn(6)
    ew = e.clone()
    out = {"decay": scalar(d), "ema0": e.clone()}
    for i in (1, 2, 3):
        p = torch.randn(6)
        e = d * e + (1 - d) * p
        t = i - 1
        dw = min(d, (1 + t) / (10 + t))
        ew = dw * ew + (1 - dw) * p
        out |= {f"params{i}": p, f"ema{i}": e.clone(), f"warm_decay{i}": scalar(dw), f"warm_ema{i}": ew.clone()}
    return save("ema", out)


def make_augment():
    rng = np.random.default_rng(7)
    b, s, pad = 6, 8, 4
    x = rng.integers(0, 256, (b, s, s, 3), dtype=np.uint8)
    flip = np.array([0, 1, 0, 1, 0, 1], dtype=np.uint8)
    dy = np.array([4, 4, 0, 8, 3, 7])
    dx = np.array([4, 4, 8, 0, 6, 1])
    out = np.empty_like(x)
    for i in range(b):
        im = x[i, :, ::-1] if flip[i] else x[i]
        padded = np.pad(im, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        out[i] = padded[dy[i]:dy[i] + s, dx[i]:dx[i] + s]
    assert (out[0] == x[0]).all() and (out[1] == x[1, :, ::-1]).all()
    # the same through torch's reflection_pad2d
    t = torch.from_numpy(x.copy()).permute(0, 3, 1, 2).float()
    t = torch.where(torch.from_numpy(flip).bool()[:, None, None, None], t.flip(3), t)
    t = F.pad(t, (pad,) * 4, mode="reflect")
    t = torch.stack([t[i, :, dy[i]:dy[i] + s, dx[i]:dx[i] + s] for i in range(b)])
    assert (t.permute(0, 2, 3, 1).byte().numpy() == out).all()
    return save("augment", {"images": torch.from_numpy(x), "flip": torch.from_numpy(flip), "dy": torch.from_numpy(dy),
                            "dx": torch.from_numpy(dx), "pad": torch.tensor([pad]), "expected": torch.from_numpy(out)})


def make_batch_norm():
    torch.manual_seed(8)
    x = (torch.randn(4, 3, 5, 5) * torch.tensor([0.5, 1, 3])[:, None, None] + torch.tensor([0.0, 1, -2])[:, None, None])
    x.requires_grad_()
    w = (torch.rand(3) + 0.5).requires_grad_()
    b = (torch.randn(3) * 0.1).requires_grad_()
    rm, rv = torch.randn(3) * 0.3, torch.rand(3) + 0.5
    rm1, rv1 = rm.clone(), rv.clone()
    y = F.batch_norm(x, rm1, rv1, w, b, training=True, momentum=0.001, eps=1e-3)
    g = torch.randn_like(y)
    y.backward(g)
    ye = F.batch_norm(x, rm, rv, w, b, training=False, eps=1e-3)
    assert torch.allclose(rv1, 0.999 * rv + 0.001 * x.transpose(0, 1).flatten(1).var(1, unbiased=True))
    return save("batch_norm", {"input": x, "weight": w, "bias": b, "running_mean": rm, "running_var": rv, "output": y,
                               "running_mean_after": rm1, "running_var_after": rv1, "output_eval": ye, "grad_output": g,
                               "grad_input": x.grad, "grad_weight": w.grad, "grad_bias": b.grad})


class Block(nn.Module):
    def __init__(self, cin, cout, stride, activate_before_residual):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin, eps=1e-3, momentum=0.001)
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout, eps=1e-3, momentum=0.001)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        if cin != cout or stride != 1:
            self.shortcut = nn.Conv2d(cin, cout, 1, stride, bias=False)
        self.activate_before_residual = activate_before_residual

    def forward(self, x):
        h = F.leaky_relu(self.bn1(x), 0.1)
        r = h if self.activate_before_residual else x
        if hasattr(self, "shortcut"):
            r = self.shortcut(r)
        return r + self.conv2(F.leaky_relu(self.bn2(self.conv1(h)), 0.1))


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes, family=3):
        super().__init__()
        n = (depth - 4) // (2 * family)
        assert 2 * family * n + 4 == depth
        self.stem = nn.Conv2d(3, 16, 3, 2 if family == 4 else 1, 1, bias=False)
        cin, groups = 16, []
        for g in range(family):
            cout, stride = 16 * 2**g * width, 1 if g == 0 else 2
            blocks = []
            for b in range(n):
                blocks.append(Block(cin, cout, stride if b == 0 else 1, g == 0 and b == 0))
                cin = cout
            groups.append(nn.ModuleList(blocks))
        self.groups = nn.ModuleList(groups)
        self.bn = nn.BatchNorm2d(cin, eps=1e-3, momentum=0.001)
        self.head = nn.Linear(cin, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):  # He, fan out, as the authors'
                nn.init.normal_(m.weight, 0, (2 / (m.kernel_size[0] * m.kernel_size[1] * m.out_channels)) ** 0.5)
        nn.init.xavier_normal_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.stem(x)
        for group in self.groups:
            for block in group:
                x = block(x)
        return self.head(F.leaky_relu(self.bn(x), 0.1).mean((2, 3)))


def make_wrn():
    for classes, expected in ((10, 1_467_610), (2, 1_466_578)):
        count = sum(p.numel() for p in WideResNet(28, 2, classes).parameters())
        assert count == expected, (classes, count)
    torch.manual_seed(9)
    net = WideResNet(10, 1, 2)
    with torch.no_grad():  # nothing at its default, so that a swapped or ignored tensor shows
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_(0, 0.2)
                m.running_mean.normal_(0, 0.3)
                m.running_var.uniform_(0.5, 2.0)
        net.head.bias.copy_(torch.tensor([0.1, -0.2]))
        for p in net.parameters():
            if p.dim() == 4:  # exactly representable in float16, which is what the file holds
                p.copy_(p.half().float())
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    t = torch.randn(4, 2).softmax(1)
    out = {"input": x, "targets": t}
    out |= {"net." + k: v.half() if v.dim() == 4 else v.clone() for k, v in net.state_dict().items()
            if not k.endswith("num_batches_tracked")}
    net.eval()
    with torch.no_grad():
        out["logits_eval"] = net(x)
    net.train()
    logits = net(x)
    F.cross_entropy(logits, t).backward()
    out["logits_train"] = logits
    for k, v in net.state_dict().items():
        if "running" in k:
            out["after." + k] = v.clone()
    grads = dict(net.named_parameters())
    for k in ("stem.weight", "groups.1.0.conv1.weight", "groups.1.0.shortcut.weight", "head.weight",
              "groups.0.0.bn1.weight"):
        out["grad." + k] = grads[k].grad
    return save("wrn_10_1", out)


def fill(name, shape):
    """Numbers in [-1, 1) that another language can repeat: splitmix64 of FNV-1a(name) + index, its upper 24 bits."""
    seed = np.uint64(0xCBF29CE484222325)
    with np.errstate(over="ignore"):
        for byte in name.encode():
            seed = (seed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        z = seed + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    unit = (z >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1.0
    return torch.from_numpy(unit.astype(np.float32)).reshape(shape)


def every(tensors, stride):
    return torch.cat([tensors[name].detach().reshape(-1)[::stride] for name in sorted(tensors)])


def fill_network(net):
    with torch.no_grad():
        for name, p in net.named_parameters():
            values = fill(name, p.shape)
            if p.dim() == 4:  # uniform with the standard deviation of He's initialisation
                p.copy_(values * (3 * 2 / (p.shape[0] * p.shape[2] * p.shape[3])) ** 0.5)
            elif p.dim() == 2:
                p.copy_(values * 0.3)
            else:
                p.copy_(1 + 0.2 * values if name.endswith("weight") else 0.1 * values)
    return net


def make_wrn4():
    net = fill_network(WideResNet(12, 1, 2, family=4))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.1
    x = fill("images", (4, 3, 32, 32))
    targets = torch.tensor([[1, 0], [0.5, 0.5], [0.2, 0.8], [0, 1]])
    net.train()
    logits = net(x)
    F.cross_entropy(logits, targets).backward()
    out = {"targets": targets, "logits_train": logits, "grad": every({n: p.grad for n, p in net.named_parameters()}, 101),
           "statistics": every({n: v for n, v in net.named_buffers() if "running" in n}, 7)}
    net.eval()
    with torch.no_grad():
        out["logits_eval"] = net(x)
    return save("wrn4_12_1", out)


def make_step():
    net = fill_network(WideResNet(28, 2, 2))
    torch.manual_seed(10)
    # A small rate: Adam's first step is lr * sign(g), and where g is nothing but rounding it goes either way.
    b, k, lr, wd, decay, lambda_u = 4, 2, 2e-5, 2.0, 0.9, 5.0
    y = F.one_hot(torch.tensor([0, 1, 1, 0]), 2).float()
    lam = torch.distributions.Beta(0.75, 0.75).sample((b * (k + 1),))
    lam = torch.maximum(lam, 1 - lam)
    out = {"y": y, "lambda": lam, "lambda_u": scalar(lambda_u), "lr": scalar(lr), "wd": scalar(wd), "decay": scalar(decay)}
    average = {n: p.detach().clone() for n, p in net.named_parameters()}
    opt = torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.999), eps=1e-8, foreach=False)
    net.train()
    for s in (1, 2):
        x, u = torch.rand(b, 3, 16, 16) * 2 - 1, torch.rand(k * b, 3, 16, 16) * 2 - 1
        perm = torch.randperm(b * (k + 1))
        before = {n: v.clone() for n, v in net.named_buffers()}
        with torch.no_grad():
            q = sharpen(net(u).softmax(1).view(k, b, 2).mean(0), 0.5)
            for n, v in net.named_buffers():
                v.copy_(before[n])
        images, targets = torch.cat([x, u]), torch.cat([y, q, q])
        l = lam[:, None]
        mixed = l[..., None, None] * images + (1 - l[..., None, None]) * images[perm]
        soft = l * targets + (1 - l) * targets[perm]
        logits = net(mixed)
        loss_x = -(soft[:b] * logits[:b].log_softmax(1)).sum(1).mean()
        loss_u = (logits[b:].softmax(1) - soft[b:]).square().mean()
        total = loss_x + lambda_u * loss_u
        opt.zero_grad()
        total.backward()
        grads = {n: p.grad.clone() for n, p in net.named_parameters()}
        opt.step()
        with torch.no_grad():
            for n, p in net.named_parameters():
                if p.dim() > 1:
                    p.mul_(1 - wd * lr)
                average[n] = decay * average[n] + (1 - decay) * p
        statistics = {n: v for n, v in net.named_buffers() if "running" in n}
        out |= {f"x{s}": x, f"u{s}": u, f"permutation{s}": perm, f"q{s}": q, f"loss_x{s}": loss_x.reshape(1),
                f"loss_u{s}": loss_u.reshape(1), f"total{s}": total.reshape(1), f"grad{s}": every(grads, 401),
                f"weights{s}": every(dict(net.named_parameters()), 401), f"average{s}": every(average, 401),
                f"statistics{s}": every(statistics, 7)}
    return save("mixmatch_step", out)


if __name__ == "__main__":
    total = sum([make_sharpen(), make_guess(), make_mixup(), make_losses(), make_adam(), make_ema(), make_augment(),
                 make_batch_norm(), make_wrn(), make_wrn4(), make_step()])
    print(f"total {total} bytes")
    assert total < 500_000, total
