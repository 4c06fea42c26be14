// What the predictions of an evaluation are worth, in integers (src/metrics/counts.rs says what
// they are): the same whatever the order, and the same as on the CPU. A key is a prediction's bits,
// which sort as predictions in [0, 1] do, with the label below them.

// Sums that score_points and score_ranks leave, in this order.
#define POINTS 5
#define RANKS 3

// keys[at..] of a batch. faults = the first prediction that is no probability, and the first label
// that is no class: ~position above the bits, 0 if there is none.
KERNEL score_batch(const float* predictions, const float* labels, u32 n, u32 at, u32* keys, u64* faults) {
    FOR_ALL(i, n) {
        float p = predictions[i] + 0.0f, y = labels[i];
        keys[at + i] = __float_as_uint(p) << 1 | (y == 1.0f ? 1u : 0u);
        u64 place = (u64)~(at + (u32)i) << 32;
        if (!(p >= 0.0f && p <= 1.0f)) atomicMax(faults, place | __float_as_uint(p));
        if (!(y == 0.0f || y == 1.0f)) atomicMax(faults + 1, place | __float_as_uint(y));
    }
}

// Joins sums of all threads of a block to partial[block, k].
template <u32 N>
__device__ __forceinline__ void leave(const u64 (&sums)[N], u64* partial) {
    for (u32 k = 0; k < N; ++k) {
        u64 sum = block_sum(sums[k]);
        if (threadIdx.x == 0) partial[(u64)blockIdx.x * N + k] = sum;
    }
}

// Positives, predicted ones, both, log loss (upper and lower half), from keys in the order of
// samples.
KERNEL score_points(const u32* keys, u32 n, u64* partial) {
    const double least = 0x1p-23;
    u64 sums[POINTS] = {};
    FOR_ALL(chunk, (n + 31) / 32) {
        double product = 1.0;
        u32 from = (u32)chunk * 32, to = min(n, from + 32);
        for (u32 i = from; i < to; ++i) {
            u32 y = keys[i] & 1u;
            float x = __uint_as_float(keys[i] >> 1);
            double p = x < least ? least : x > 1.0 - least ? 1.0 - least : (double)x;
            product *= y ? p : 1.0 - p;
            u32 over = x > 0.5f ? 1u : 0u;
            sums[0] += y;
            sums[1] += over;
            sums[2] += y & over;
        }
        u64 loss = (u64)(-exact_ln(product) * 0x1p44);
        sums[3] += loss >> 32;
        sums[4] += loss & 0xffffffffu;
    }
    leave(sums, partial);
}

// counts[tile] = positives of a tile of sorted keys
KERNEL score_tiles(const u32* keys, u32 n, u32* counts) {
    u32 own = 0;
    for (u32 k = 0; k < ITEMS; ++k) {
        u64 i = (u64)blockIdx.x * TILE + k * 256 + threadIdx.x;
        if (i < n) own += keys[i] & 1u;
    }
    own = block_sum(own);
    if (threadIdx.x == 0) counts[blockIdx.x] = own;
}

// The first of the keys up to `at` that is not below `least`; keys[at] is not. Steps back grow, so
// that long ties take no longer than a search.
__device__ __forceinline__ u32 first_from(const u32* keys, u32 at, u32 least) {
    u32 step = 1;
    while (at >= step && keys[at - step] >= least) {
        at -= step;
        step *= 2;
    }
    u32 low = at >= step ? at - step + 1 : 0;
    while (low < at) {
        u32 middle = (low + at) / 2;
        if (keys[middle] >= least) at = middle; else low = middle + 1;
    }
    return at;
}

// Twice the pairs in order, ties counting once; precision at each prediction that positives have
// (upper and lower half), from sorted keys and the positives before each tile. Whoever meets the
// last of a tie counts for all of it.
KERNEL score_ranks(const u32* keys, u32 n, const u32* before, const u64* positives, u64* partial) {
    u64 first = (u64)blockIdx.x * TILE + threadIdx.x * ITEMS;
    u32 own = 0;
    for (u64 i = first; i < first + ITEMS && i < n; ++i) own += keys[i] & 1u;
    u32 upto = before[blockIdx.x] + sum_before(own);
    u64 sums[RANKS] = {};
    for (u64 i = first; i < first + ITEMS && i < n; ++i) {
        u32 key = keys[i];
        upto += key & 1u;
        if (i + 1 < n && (keys[i + 1] | 1u) == (key | 1u)) continue;
        // Among ties negatives come first.
        u32 end = (u32)i + 1, middle = key & 1u ? first_from(keys, (u32)i, key) : end;
        u32 start = first_from(keys, key & 1u ? middle : (u32)i, key & ~1u);
        u64 hits = end - middle, misses = middle - start, above = *positives - upto;
        sums[0] += misses * (2 * above + hits);
        if (hits > 0) {
            u64 precision = (u64)((double)(above + hits) / (double)(n - start) * 0x1p53);
            sums[1] += hits * (precision >> 32);
            sums[2] += hits * (precision & 0xffffffffu);
        }
    }
    leave(sums, partial);
}

// Threshold `k` of src/metrics/binned.rs, of 1000.
__device__ __forceinline__ float threshold(u32 k) {
    return k == 0 ? -1e-7f : k == 999 ? 1.0f + 1e-7f : (float)((double)k / 999.0);
}

// Samples above a threshold, by class; `before` as for score_ranks.
struct Above { u64 negatives, positives; };
__device__ Above above(const u32* keys, u32 n, const u32* before, u64 positives, float t) {
    if (t < 0.0f) return Above{n - positives, positives};
    // The first key of a prediction above the threshold.
    u32 low = 0, high = n, least = (__float_as_uint(t) + 1u) << 1;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        if (keys[middle] >= least) high = middle; else low = middle + 1;
    }
    if (low == n) return Above{0, 0};
    u64 upto = before[low / TILE];
    for (u32 i = low / TILE * TILE; i < low; ++i) upto += keys[i] & 1u;
    u64 hits = positives - upto;
    return Above{n - low - hits, hits};
}

// Twice the area under the trapezoids between two thresholds, times negatives and positives
KERNEL score_thresholds(const u32* keys, u32 n, const u32* before, const u64* positives, u64* partial) {
    u64 sums[1] = {};
    FOR_ALL(k, 999) {
        Above a = above(keys, n, before, *positives, threshold((u32)k)), b = above(keys, n, before, *positives, threshold((u32)k + 1));
        sums[0] += (a.negatives - b.negatives) * (a.positives + b.positives);
    }
    leave(sums, partial);
}

// out[k] = sum of partial[., k] over the blocks; one block
KERNEL score_join(const u64* partial, u32 parts, u32 width, u64* out) {
    for (u32 k = 0; k < width; ++k) {
        u64 sum = 0;
        for (u32 i = threadIdx.x; i < parts; i += blockDim.x) sum += partial[(u64)i * width + k];
        sum = block_sum(sum);
        if (threadIdx.x == 0) out[k] = sum;
    }
}
