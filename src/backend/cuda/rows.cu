// Rows of a table by their numbers, all their bits in f32: what a snapshot keeps, and what a cache
// brings in and out. Number `i % width` of row `numbers[i / width]` is value `i`.

// Where something that there is for each row is: 0 rows, 1 weights, 2 and 3 the state of rows, 4 and
// 5 that of weights.
__device__ __forceinline__ u64 place_of(const Rows& t, u32 of) {
    if (of < 2) return of == 0 ? t.values : t.weights;
    return of < 4 ? t.state[of - 2] : t.weight_state[of - 4];
}

KERNEL read_rows(const Rows* tables, u32 t, u32 of, u32 kind, u32 width, const u32* numbers, u64 n, float* out) {
    u64 from = place_of(tables[t], of);
    FOR_ALL(i, n) {
        u64 at = (u64)numbers[i / width] * width + i % width;
        out[i] = of == 0 ? whole(kind, tables[t], at) : reinterpret_cast<const float*>(from)[at];
    }
}

// No number twice. Each value is rounded to the nearest that can be kept.
KERNEL write_rows(const Rows* tables, u32 t, u32 of, u32 kind, u32 width, const u32* numbers, u64 n, const float* values) {
    u64 to = place_of(tables[t], of);
    FOR_ALL(i, n) {
        u64 at = (u64)numbers[i / width] * width + i % width;
        if (of != 0) {
            reinterpret_cast<float*>(to)[at] = values[i];
        } else if (kind == BF16_SPLIT) {
            keep(kind, tables[t], at, values[i], 0);
        } else {
            set(kind, to, at, values[i]);
        }
    }
}
