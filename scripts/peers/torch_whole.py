"""A whole training with PyTorch on a CPU, to an AUC, as one JSON line.

usage: torch_whole.py quickstart MODE TRAIN.npz EVAL.npz --target AUC [--seed N]
       torch_whole.py frappe MODE TRAIN.csv VALID.csv --target AUC [--seed N]

The models, rules and batches are those of workloads/quickstart.toml and workloads/frappe-deepfm.toml. Data are in memory, ready to be cut into
batches, before the clock starts; it stops when an evaluation finds the AUC, evaluations included.

MODE of the quick start: joined (one nn.EmbeddingBag(sparse=True) for all tables, row-wise Adagrad on its coalesced gradient) or fbgemm (FBGEMM's
table-batched embeddings, which update rows within the backward pass). Of Frappe: plain or fused (torch.optim.Adam).
"""

import argparse
import json
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from torch_steps import Dlrm, mlp


def auc(scores, labels):
    """Exact, ties by the mean of their ranks."""
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    first = np.flatnonzero(np.r_[True, sorted_scores[1:] != sorted_scores[:-1]])
    last = np.r_[first[1:], len(scores)]
    ranks = np.repeat((first + last + 1) / 2, last - first)
    positive = labels[order] > 0.5
    n = positive.sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(labels) - n)))


def facebook_init(net):
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            m, n = layer.weight.shape
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (m + n)))
            nn.init.normal_(layer.bias, std=math.sqrt(1 / m))


class Joined:
    """All tables in one, row-wise Adagrad."""

    def __init__(self, rows, dim, rate, batch):
        self.starts = torch.tensor([0] + rows[:-1]).cumsum(0).to(torch.int32)
        self.bag = nn.EmbeddingBag(sum(rows), dim, mode="sum", sparse=True, _weight=torch.empty(sum(rows), dim))
        with torch.no_grad():
            for start, n in zip(self.starts.tolist(), rows):
                self.bag.weight[start : start + n].uniform_(-math.sqrt(1 / n), math.sqrt(1 / n))
        self.state, self.rate, self.shape = torch.zeros(sum(rows)), rate, (len(rows), dim)
        self.offsets = torch.arange(batch * len(rows), dtype=torch.int32)

    def ids(self, ids):
        return (ids + self.starts).reshape(-1)

    def __call__(self, ids):
        return self.bag(ids, self.offsets[: len(ids)]).view(-1, *self.shape)

    def update(self):
        g = self.bag.weight.grad.coalesce()
        rows, values = g.indices()[0], g.values()
        state = self.state.index_select(0, rows) + values.pow(2).mean(1)
        with torch.no_grad():
            self.state.index_copy_(0, rows, state)
            values = values / (state.sqrt() + 1e-10).unsqueeze(1)
            self.bag.weight.index_add_(0, rows, values, alpha=-self.rate)
        self.bag.weight.grad = None


class Fbgemm:
    """FBGEMM's tables with its row-wise Adagrad."""

    def __init__(self, rows, dim, rate, batch):
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
            ComputeDevice, EmbeddingLocation, SplitTableBatchedEmbeddingBagsCodegen,
        )

        specs = [(n, dim, EmbeddingLocation.HOST, ComputeDevice.CPU) for n in rows]
        kind = EmbOptimType.EXACT_ROWWISE_ADAGRAD
        self.tables = SplitTableBatchedEmbeddingBagsCodegen(specs, optimizer=kind, learning_rate=rate, eps=1e-10)
        for table, n in zip(self.tables.split_embedding_weights(), rows):
            table.uniform_(-math.sqrt(1 / n), math.sqrt(1 / n))
        self.shape, self.batch = (len(rows), dim), batch

    def ids(self, ids):
        # Table by table, as it wants them: for each batch by itself.
        batches = [ids[i : i + self.batch].T.reshape(-1) for i in range(0, len(ids), self.batch)]
        return torch.cat(batches).to(torch.int64)

    def __call__(self, ids):
        offsets = torch.arange(len(ids) + 1)
        return self.tables(ids, offsets).view(-1, *self.shape)

    def update(self):
        pass


def quickstart(a):
    dense, dim, rate, every, batch, eval_batch = 13, 16, 0.02, 122, 2048, 8192
    train, evaluation = np.load(a.train), np.load(a.eval)
    log1p = lambda x: torch.from_numpy(np.log1p(np.maximum(x, 0)).astype(np.float32))
    rows = train["counts"].tolist()
    tables = {"joined": Joined, "fbgemm": Fbgemm}[a.mode](rows, dim, rate, max(batch, eval_batch))
    net = Dlrm(dense, [64, 16], len(rows), dim, [128, 64, 1])
    facebook_init(net)
    optimizer = torch.optim.Adagrad(net.parameters(), lr=rate, eps=1e-10, foreach=True)

    def ready(data, batch):
        size = len(data["y"]) // batch * batch if data is train else len(data["y"])
        tables.batch = batch
        ids = tables.ids(torch.from_numpy(data["X_cat"][:size].astype(np.int32)))
        return log1p(data["X_int"][:size]), ids, torch.from_numpy(data["y"][:size].astype(np.float32))

    held_x, held_i, held_y = ready(evaluation, eval_batch)
    x, i, y = ready(train, batch)
    held_labels, count = held_y.numpy(), len(rows)

    def evaluate():
        scores = []
        with torch.no_grad():
            for at in range(0, len(held_y), eval_batch):
                part = slice(at, at + eval_batch)
                n = len(held_y[part])
                scores.append(net(held_x[part], tables(held_i[count * at : count * (at + n)])))
        return auc(torch.cat(scores).numpy(), held_labels)

    def step(k):
        at = slice(k * batch, (k + 1) * batch)
        optimizer.zero_grad(set_to_none=True)
        z = net(x[at], tables(i[count * at.start : count * at.stop]))
        F.binary_cross_entropy_with_logits(z, y[at]).backward()
        optimizer.step()
        tables.update()

    return step, evaluate, every, len(y) // batch, batch


class DeepFm(nn.Module):
    def __init__(self, rows, fields, dim, hidden, dropout):
        super().__init__()
        self.vectors, self.scalars = nn.Embedding(rows, dim), nn.Embedding(rows, 1)
        for table in (self.vectors, self.scalars):
            nn.init.normal_(table.weight, std=1e-4)
        layers, inputs = [], fields * dim
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        self.deep = nn.Sequential(*layers, nn.Linear(inputs, 1))
        for layer in self.deep:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, ids):
        v, w = self.vectors(ids), self.scalars(ids)
        pairs = 0.5 * (v.sum(1) ** 2 - (v**2).sum(1)).sum(1)
        return self.deep(v.flatten(1)).squeeze(1) + pairs + w.sum((1, 2)) + self.bias


def frappe(a):
    batch, l2 = 4096, 0.05
    read = lambda path: np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64)
    train, held = read(a.train), read(a.eval)
    # Words of the training file, field by field; what it does not have is one more.
    starts, ids, held_ids = 0, [], []
    for field in range(1, train.shape[1]):
        words = np.unique(train[:, field])
        find = lambda x: np.where(np.isin(x, words), np.searchsorted(words, x) % (len(words) + 1), len(words))
        ids.append(find(train[:, field]) + starts)
        held_ids.append(find(held[:, field]) + starts)
        starts += len(words) + 1
    ids, held_ids = (torch.from_numpy(np.stack(x, 1)) for x in (ids, held_ids))
    y, held_labels = torch.from_numpy(train[:, 0].astype(np.float32)), held[:, 0]
    net = DeepFm(starts, ids.shape[1], 10, [400, 400, 400], 0.2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=a.mode == "fused" or None)
    tables = [net.vectors.weight, net.scalars.weight]
    steps = -(-len(y) // batch)
    order = None

    def step(k):
        nonlocal order
        if k % steps == 0:
            order = torch.randperm(len(y))
        at = order[k % steps * batch : (k % steps + 1) * batch]
        optimizer.zero_grad(set_to_none=True)
        net.train()
        loss = F.binary_cross_entropy_with_logits(net(ids[at]), y[at])
        loss = loss + sum(l2 / 2 * (table**2).sum() for table in tables)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()

    def evaluate():
        net.eval()
        with torch.no_grad():
            scores = torch.cat([net(held_ids[at : at + 8192]) for at in range(0, len(held_ids), 8192)])
        return auc(scores.numpy(), held_labels)

    return step, evaluate, steps, 100 * steps, batch


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("system", choices=["quickstart", "frappe"])
    parser.add_argument("mode", choices=["joined", "fbgemm", "plain", "fused"])
    parser.add_argument("train")
    parser.add_argument("eval")
    parser.add_argument("--target", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    step, evaluate, every, most, batch = (quickstart if a.system == "quickstart" else frappe)(a)
    began, found, judging = time.perf_counter(), [], 0.0
    for k in range(most):
        step(k)
        if (k + 1) % every == 0:
            at = time.perf_counter()
            found.append(round(evaluate(), 5))
            judging += time.perf_counter() - at
            if found[-1] >= a.target:
                break
    seconds = time.perf_counter() - began
    print(json.dumps({
        "system": a.system, "engine": f"torch {torch.__version__} {a.mode}", "seed": a.seed, "steps": k + 1, "samples": (k + 1) * batch,
        "reached": bool(found) and found[-1] >= a.target, "auc": found, "seconds": round(seconds, 3), "evaluating": round(judging, 3),
    }))


if __name__ == "__main__":
    main()
