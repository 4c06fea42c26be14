"""Training steps a second of PyTorch on a CPU or a GPU, on the systems of benches/support/systems.rs, as one JSON line.

usage: torch_steps.py SYSTEM MODE [--bf16 | --tf32] [--seconds S] [--threads N] [--device cpu|cuda] [--compile] [--graph]

SYSTEM is deeprec, mlperf, deepfm, deepfm-dense-adam, facebook, or terabyte: mlperf with all of its 187.8 M rows (--max-rows N for fewer)
and batches of 65,536 (--batch N for others). MODE says how embeddings are looked up and updated.
DLRMs (plain SGD):
  bags    one nn.EmbeddingBag(sparse=True) a table and torch.optim.SGD, as facebookresearch/dlrm does
  joined  one nn.EmbeddingBag(sparse=True) for all tables, ids shifted
  inplace index_select, and index_add_ for the update, without coalescing (single ids only)
  ipex    Intel's extension (CPU): one merged module for all tables that updates rows as their gradients come (under --bf16 in two halves), its
          interaction, and ipex.optimize for the rest
  fbgemm  FBGEMM's table-batched embeddings, which update rows within the backward pass
  torchrec  the same by TorchRec's FusedEmbeddingBagCollection
DeepFM:
  sparse  nn.Embedding(sparse=True) and SparseAdam, fused Adam for the rest (deepfm)
  fused   fused Adam for everything (deepfm-dense-adam)
  plain   torch.optim.Adam as it comes (deepfm-dense-adam)

--bf16 computes the network under autocast, --tf32 lets a GPU round the operands of f32 products. --compile is torch.compile of the network, --graph
captures a whole step in a CUDA graph and replays it, batches being copied to its place (inplace, fused). Batches are made beforehand, on
the device; nothing is loaded while the clock runs.
"""

import argparse
import json
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

TERABYTE = [
    39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10, 2208, 11938, 155, 4, 976, 14,
    39979771, 25641295, 39664984, 585935, 12972, 108, 36,
]
DLRMS = {
    # dense, bottom, rows, dim, top, ids a bag, batch
    "deeprec": (13, [512, 256, 64, 16], [10_000] * 26, 16, [512, 256, 1], 1, 2048),
    "mlperf": (13, [512, 256, 128], [min(n, 500_000) for n in TERABYTE], 128, [1024, 1024, 512, 256, 1], 1, 2048),
    "facebook": (512, [512, 64], [1_000_000] * 8, 64, [1024, 1024, 1024, 1], 100, 2048),
    "terabyte": (13, [512, 256, 128], TERABYTE, 128, [1024, 1024, 512, 256, 1], 1, 65_536),
}


def mlp(inputs, widths, last_relu):
    layers = []
    for i, width in enumerate(widths):
        layers.append(nn.Linear(inputs, width))
        if last_relu or i + 1 < len(widths):
            layers.append(nn.ReLU())
        inputs = width
    return nn.Sequential(*layers)


class Dlrm(nn.Module):
    """Everything but the embeddings; `e` is [batch, tables, dim], or with an `interact` of its own what that takes."""

    def __init__(self, dense, bottom, tables, dim, top, interact=None):
        super().__init__()
        self.interact = interact
        pairs = torch.tril_indices(tables + 1, tables + 1, -1)
        self.register_buffer("pairs", (pairs[0] * (tables + 1) + pairs[1]).contiguous())
        self.bottom = mlp(dense, bottom, True)
        self.top = mlp(dim + len(self.pairs), top, False)

    def forward(self, x, e):
        d = self.bottom(x)
        if self.interact:
            return self.top(self.interact(d, *e)).squeeze(1)
        t = torch.cat([d.unsqueeze(1), e.to(d.dtype)], 1)
        z = torch.bmm(t, t.transpose(1, 2)).view(len(x), -1).index_select(1, self.pairs)
        return self.top(torch.cat([d, z], 1)).squeeze(1)


def captured(step, sets, graph):
    """`step(tensors)` on the sets of tensors in turn; with `graph`, captured once and replayed on copies of them."""
    if not graph:
        return lambda k: step(sets[k % len(sets)])
    place = [t.clone() for t in sets[0]]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(place)
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step(place)

    def replay(k):
        for to, tensor in zip(place, sets[k % len(sets)]):
            to.copy_(tensor, non_blocking=True)
        recorded.replay()

    return replay


def of_ipex(rows, dim, rate, ids, a):
    """Lookup and inputs of Intel's merged tables."""
    from intel_extension_for_pytorch.nn.modules import MergedEmbeddingBagWithSGD

    bags = [nn.EmbeddingBag(n, dim, mode="sum") for n in rows]
    merged = MergedEmbeddingBagWithSGD.from_embeddingbag_list(bags, lr=rate)
    if a.bf16:
        merged.to_bfloat16_train()
    batch, hotness = ids[0][0].shape
    offsets = [torch.arange(batch) * hotness for _ in rows]
    return lambda i: merged(i.unbind(), offsets), [torch.stack([t.reshape(-1) for t in sample]) for sample in ids]


def of_fbgemm(rows, dim, rate, ids, a):
    """Lookup and inputs of FBGEMM's table-batched embeddings."""
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice, EmbeddingLocation, SplitTableBatchedEmbeddingBagsCodegen,
    )

    specs = [(n, dim, EmbeddingLocation.HOST, ComputeDevice.CPU) for n in rows]
    tables = SplitTableBatchedEmbeddingBagsCodegen(specs, optimizer=EmbOptimType.EXACT_SGD, learning_rate=rate)
    batch, hotness = ids[0][0].shape
    offsets = torch.arange(batch * len(rows) + 1) * hotness
    flat = [torch.cat([t.reshape(-1) for t in sample]) for sample in ids]
    return lambda i: tables(i, offsets).view(batch, len(rows), dim), flat


def of_torchrec(rows, dim, rate, ids, a):
    """Lookup and inputs of TorchRec's fused collection."""
    from torchrec.modules.embedding_configs import EmbeddingBagConfig
    from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

    names = [f"f{k}" for k in range(len(rows))]
    tables = [
        EmbeddingBagConfig(name=f"t{k}", embedding_dim=dim, num_embeddings=n, feature_names=[names[k]])
        for k, n in enumerate(rows)
    ]
    device = torch.device(a.device)
    collection = FusedEmbeddingBagCollection(tables, optimizer_type=torch.optim.SGD, optimizer_kwargs={"lr": rate}, device=device)
    batch, hotness = ids[0][0].shape
    lengths = torch.full((batch * len(rows),), hotness, dtype=torch.int32)
    flat = [torch.cat([t.reshape(-1) for t in sample]) for sample in ids]
    keyed = lambda i: KeyedJaggedTensor.from_lengths_sync(names, i, lengths)
    return lambda i: collection(keyed(i)).values().view(batch, len(rows), dim), flat


# Modes whose embeddings update themselves.
FUSED = {"ipex": of_ipex, "fbgemm": of_fbgemm, "torchrec": of_torchrec}


def dlrm(system, mode, a):
    dense, bottom, rows, dim, top, hotness, batch = DLRMS[system]
    rows, batch = [min(n, a.max_rows or n) for n in rows], a.batch or batch
    tables, rate, count = len(rows), 0.01, 8 if hotness == 1 else 4
    interact = None
    if mode == "ipex":
        import intel_extension_for_pytorch as ipex

        interact = ipex.nn.functional.interaction
    net = Dlrm(dense, bottom, tables, dim, top, interact)
    run_net = torch.compile(net) if a.compile else net
    xs = [torch.rand(batch, dense) for _ in range(count)]
    ys = [(torch.rand(batch) < 0.25).float() for _ in range(count)]
    ids = [[torch.randint(0, n, (batch, hotness)) for n in rows] for _ in range(count)]
    starts = torch.tensor([0] + rows[:-1]).cumsum(0)
    params = list(net.parameters())
    table = None
    if mode == "bags":
        bags = nn.ModuleList([nn.EmbeddingBag(n, dim, mode="sum", sparse=True) for n in rows])
        params += bags.parameters()
        offsets = torch.arange(batch) * hotness
        flat = [torch.stack([t.reshape(-1) for t in sample]) for sample in ids]
        lookup = lambda i: torch.stack([bag(ids, offsets) for bag, ids in zip(bags, i)], 1)
    elif mode in FUSED:
        lookup, flat = FUSED[mode](rows, dim, rate, ids, a)
    else:
        flat = [torch.stack([t + s for t, s in zip(sample, starts)], 1).reshape(-1) for sample in ids]
        if mode == "joined":
            bag = nn.EmbeddingBag(sum(rows), dim, mode="sum", sparse=True)
            params += bag.parameters()
            offsets = torch.arange(batch * tables) * hotness
            lookup = lambda i: bag(i, offsets).view(batch, tables, dim)
        else:
            assert hotness == 1, "inplace takes single ids"
            table = torch.empty(sum(rows), dim).uniform_(-0.01, 0.01)
            lookup = lambda i: table.index_select(0, i).view(batch, tables, dim).requires_grad_(True)
    optimizer = torch.optim.SGD(params, lr=rate)
    if mode == "ipex":
        precision = torch.bfloat16 if a.bf16 else torch.float32
        run_net, optimizer = ipex.optimize(net.train(), dtype=precision, optimizer=optimizer, inplace=True)

    def step(tensors):
        x, y, i = tensors
        optimizer.zero_grad(set_to_none=True)
        e = lookup(i)
        with torch.autocast(a.device, dtype=torch.bfloat16, enabled=a.bf16):
            z = run_net(x, e)
        F.binary_cross_entropy_with_logits(z.float(), y).backward()
        optimizer.step()
        if table is not None:
            with torch.no_grad():
                table.index_add_(0, i, e.grad.view(-1, dim).float(), alpha=-rate)

    return captured(step, list(zip(xs, ys, flat)), a.graph), batch


def deepfm(mode, a):
    fields, dim, hidden, batch, count = 39, 16, [1000] * 5, a.batch or 10_000, 8
    per, sparse = 1_000_000 // fields, mode == "sparse"
    vectors = nn.Embedding(per * fields, dim, sparse=sparse)
    scalars = nn.Embedding(per * fields, 1, sparse=sparse)
    layers, inputs = [], fields * dim
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.2)]
        inputs = width
    net = nn.Sequential(*layers, nn.Linear(inputs, 1))
    run_net = torch.compile(net) if a.compile else net
    xs = [torch.randint(0, per, (batch, fields)) + torch.arange(fields) * per for _ in range(count)]
    ys = [(torch.rand(batch) < 0.25).float() for _ in range(count)]
    tables = [vectors.weight, scalars.weight]
    if sparse:
        optimizers = [torch.optim.SparseAdam(tables, lr=1e-4), torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)]
    else:
        optimizers = [
            torch.optim.Adam([*tables, *net.parameters()], lr=1e-4, fused=mode == "fused" or None, capturable=a.graph)
        ]

    def step(tensors):
        x, y = tensors
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        v, w = vectors(x), scalars(x)
        with torch.autocast(a.device, dtype=torch.bfloat16, enabled=a.bf16):
            pairs = 0.5 * (v.sum(1) ** 2 - (v**2).sum(1)).sum(1)
            z = run_net(v.flatten(1)).squeeze(1) + pairs + w.sum((1, 2))
        F.binary_cross_entropy_with_logits(z.float(), y).backward()
        for optimizer in optimizers:
            optimizer.step()

    return captured(step, list(zip(xs, ys)), a.graph), batch


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("system", choices=[*DLRMS, "deepfm", "deepfm-dense-adam"])
    parser.add_argument("mode", choices=["bags", "joined", "inplace", *FUSED, "sparse", "fused", "plain"])
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--bf16", action="store_true")
    precision.add_argument("--tf32", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graph", action="store_true")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--max-rows", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    a = parser.parse_args()
    if a.graph and (a.device == "cpu" or a.mode not in ("inplace", "fused")):
        parser.error("--graph wants --device cuda and a mode without sparse gradients: inplace, fused")
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    torch.set_default_device(a.device)
    torch.set_float32_matmul_precision("high" if a.tf32 else "highest")
    step, batch = dlrm(a.system, a.mode, a) if a.system in DLRMS else deepfm(a.mode, a)
    wait = torch.cuda.synchronize if a.device == "cuda" else lambda: None
    groups, number = 5, 0

    def run(steps):
        nonlocal number
        wait()
        began = time.perf_counter()
        for _ in range(steps):
            step(number)
            number += 1
        wait()
        return (time.perf_counter() - began) / steps

    run(5)
    steps = max(2, int(a.seconds / groups / run(3)))
    times = sorted(run(steps) for _ in range(groups))
    how = [a.mode, *(["compile"] if a.compile else []), *(["graph"] if a.graph else [])]
    precision = "bf16" if a.bf16 else "tf32" if a.tf32 else "fp32"
    print(json.dumps({
        "system": a.system, "engine": f"torch {torch.__version__} {' '.join(how)}", "precision": precision, "device": a.device,
        "threads": a.threads, "batch": batch, "samples_per_second": round(batch / times[groups // 2]),
        "lowest": round(batch / times[-1]), "highest": round(batch / times[0]), "seconds_a_step": times[groups // 2],
    }))


if __name__ == "__main__":
    main()
