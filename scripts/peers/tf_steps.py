"""Training steps a second of TensorFlow on a CPU, on the DLRMs of torch_steps.py, as one JSON line.

usage: tf_steps.py deeprec|mlperf [--bf16] [--xla] [--seconds S] [--threads N]

Embeddings are looked up by tf.nn.embedding_lookup; SGD writes by raw operations (sparse ones scatter), as TensorFlow 1's optimizers did and
faster than Keras' own. --bf16 computes the network in bf16, --xla compiles the whole step. Batches are made beforehand.
"""

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

TERABYTE = [
    39884406, 39043, 17289, 7420, 20263, 3, 7120, 1543, 63, 38532951, 2953546, 403346, 10, 2208, 11938, 155, 4, 976, 14,
    39979771, 25641295, 39664984, 585935, 12972, 108, 36,
]
DLRMS = {
    # dense, bottom, rows, dim, top, batch
    "deeprec": (13, [512, 256, 64, 16], [10_000] * 26, 16, [512, 256, 1], 2048),
    "mlperf": (13, [512, 256, 128], [min(n, 500_000) for n in TERABYTE], 128, [1024, 1024, 512, 256, 1], 2048),
}
RATE = 0.01


def layers(inputs, widths):
    made = []
    for width in widths:
        scale = (2.0 / (inputs + width)) ** 0.5
        made.append((tf.Variable(tf.random.normal((inputs, width), stddev=scale)), tf.Variable(tf.zeros(width))))
        inputs = width
    return made


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("system", choices=DLRMS)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    a = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(a.threads)
    dense, bottom, rows, dim, top, batch = DLRMS[a.system]
    batch = a.batch or batch
    tables, kind = len(rows), tf.bfloat16 if a.bf16 else tf.float32
    below, above = layers(dense, bottom), layers(dim + tables * (tables + 1) // 2, top)
    embeddings = [tf.Variable(tf.random.uniform((n, dim), -0.01, 0.01)) for n in rows]
    lower = np.tril_indices(tables + 1, -1)
    pairs = tf.constant(lower[0] * (tables + 1) + lower[1], tf.int32)
    variables = [v for layer in below + above for v in layer] + embeddings

    def mlp(x, made, last):
        for k, (weight, bias) in enumerate(made):
            x = tf.matmul(x, tf.cast(weight, kind)) + tf.cast(bias, kind)
            x = tf.nn.relu(x) if last or k + 1 < len(made) else x
        return x

    @tf.function(jit_compile=a.xla)
    def step(x, ids, y):
        with tf.GradientTape() as tape:
            d = mlp(tf.cast(x, kind), below, True)
            vectors = [tf.cast(tf.nn.embedding_lookup(e, ids[k]), kind) for k, e in enumerate(embeddings)]
            t = tf.stack([d, *vectors], 1)
            z = tf.reshape(tf.matmul(t, t, transpose_b=True), (batch, (tables + 1) ** 2))
            h = mlp(tf.concat([d, tf.gather(z, pairs, axis=1)], 1), above, False)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(y, tf.squeeze(tf.cast(h, tf.float32), 1)))
        for v, g in zip(variables, tape.gradient(loss, variables)):
            if isinstance(g, tf.IndexedSlices):
                tf.raw_ops.ResourceScatterSub(resource=v.handle, indices=g.indices, updates=RATE * g.values)
            else:
                tf.raw_ops.ResourceApplyGradientDescent(var=v.handle, alpha=RATE, delta=g)
        return loss

    count = 8
    xs = [tf.random.uniform((batch, dense)) for _ in range(count)]
    ys = [tf.cast(tf.random.uniform((batch,)) < 0.25, tf.float32) for _ in range(count)]
    ids = [tf.stack([tf.random.uniform((batch,), 0, n, tf.int32) for n in rows]) for _ in range(count)]
    groups, number = 5, 0

    def run(steps):
        nonlocal number
        began = time.perf_counter()
        for _ in range(steps):
            loss = step(xs[number % count], ids[number % count], ys[number % count])
            number += 1
        assert np.isfinite(loss.numpy())
        return (time.perf_counter() - began) / steps

    run(5)
    steps = max(2, int(a.seconds / groups / run(3)))
    times = sorted(run(steps) for _ in range(groups))
    print(json.dumps({
        "system": a.system, "engine": f"tensorflow {tf.__version__}{' xla' if a.xla else ''}", "precision": "bf16" if a.bf16 else "fp32",
        "device": "cpu", "threads": a.threads, "batch": batch, "samples_per_second": round(batch / times[groups // 2]),
        "lowest": round(batch / times[-1]), "highest": round(batch / times[0]), "seconds_a_step": times[groups // 2],
    }))


if __name__ == "__main__":
    main()
