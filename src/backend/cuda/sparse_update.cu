// Updates of embedding rows: gradients of bags summed by row in the order of the batch, then the
// rule, in one sweep over the sorted occurrences. A group of 1 to 32 lanes takes some SPAN
// occurrences, four columns a lane. A row whose occurrences reach beyond a span leaves sums of its
// parts, which `join_spans` adds in their order: popular rows are summed by many groups, and no order
// ever varies. Spans begin at multiples of SPAN among a table's own occurrences, so that sums do not
// depend on which tables are beside it.

#define SPAN 32u

enum Mode { UPDATE = 0, SQUARES = 1, WRITE_OUT = 2 };

struct Work {
    const Rows* tables;
    // Sorted occurrences.
    const u32* keys;
    const u32* samples;
    // First occurrence and first row of each table of the set, and one more, among those of all.
    const u32* id_base;
    const u32* row_base;
    // Null if every bag has one id.
    const u32* offsets;
    // Gradient of the pooled vectors, numbers of `pooled_kind`; table t in columns t * dim.
    u64 pooled;
    // Sums of parts of rows, [spans, 2, dim]: of a row that began before the span, and of one that
    // goes on behind it.
    float* parts;
    const Step* step;
    // The factor by which gradients are too large.
    const double* loss_scale;
    // Ids of all tables. If `behind` is not null they are slots, and behind so many of them is what each stands for.
    const u32* slots;
    const u32* behind;
    // One sum a block.
    double* squares;
    float* out_rows;
    float* out_weights;
    u32 stride, table_count, batch, kind, dim, first_table, mean, weighted, learned, mode, lanes, row_from, row_to;
    float l2;
    u32 pooled_kind, unused;
};

// The set's occurrences.
__device__ __forceinline__ u32 first_occurrence(const Work& w) { return w.id_base[0]; }
__device__ __forceinline__ u32 last_occurrence(const Work& w) { return w.id_base[w.table_count]; }

// Whether there is nothing to do.
__device__ __forceinline__ bool idle(const Work& w) { return w.mode == UPDATE && !w.step->on; }

struct Group { u32 lane, mask, index, count; };

__device__ __forceinline__ Group group_of(const Work& w) {
    u32 lanes = w.lanes, in_warp = threadIdx.x % 32;
    u32 mask = lanes == 32 ? FULL : ((1u << lanes) - 1u) << (in_warp / lanes * lanes);
    u32 each = blockDim.x / lanes;
    return Group{threadIdx.x % lanes, mask, blockIdx.x * each + threadIdx.x / lanes, gridDim.x * each};
}

template <class T>
__device__ __forceinline__ T group_sum(const Work& w, const Group& g, T v) {
    for (u32 step = w.lanes / 2; step > 0; step /= 2) v += __shfl_xor_sync(g.mask, v, step);
    return v;
}

// Column of element k of a lane's sweep s: neighbours of a group read neighbours in memory.
#define COLUMN(s, k) (g.lane + (4 * (s) + (k)) * w.lanes)
// Wide rows stay loops: unrolled, their addresses alone would take more registers than there are.
#define EACH(s, k) \
    _Pragma("unroll (S <= 2 ? S : 1)") for (u32 s = 0; s < S; ++s) _Pragma("unroll") for (u32 k = 0; k < 4; ++k) if (COLUMN(s, k) < w.dim)

// sum += share * row, if there is a share
template <u32 S, class Number, class Widen>
__device__ __forceinline__ void add_row(const Work& w, const Group& g, const Number* row, bool shared, float share, float (&sum)[S][4],
                                        Widen widen) {
    if (shared) {
        EACH(s, k) sum[s][k] += share * widen(row[COLUMN(s, k)]);
    } else {
        EACH(s, k) sum[s][k] += widen(row[COLUMN(s, k)]);
    }
}

// sum += share of occurrence i
template <u32 S>
__device__ __forceinline__ void add(const Work& w, const Group& g, u32 t, u32 i, float (&sum)[S][4]) {
    u32 sample = w.samples[i];
    u64 at = (u64)sample * w.stride + (u64)t * w.dim;
    bool shared = w.mean && w.offsets;
    float share = 1.0f;
    if (shared) {
        const u32* bag = w.offsets + (u64)t * (w.batch + 1) + sample;
        share = __fdiv_rn(1.0f, (float)(bag[1] - bag[0]));
    }
    const float* floats = reinterpret_cast<const float*>(w.pooled) + at;
    const u16* halves = reinterpret_cast<const u16*>(w.pooled) + at;
    if (w.pooled_kind == FP32) add_row<S>(w, g, floats, shared, share, sum, [](float x) { return x; });
    else if (w.pooled_kind == BF16) add_row<S>(w, g, halves, shared, share, sum, [](u16 x) { return from_bf16(x); });
    else add_row<S>(w, g, halves, shared, share, sum, [](u16 x) { return from_f16(x); });
}

// Noise of column c of a row, 16 bits: src/random/philox.rs, `columns`.
__device__ __forceinline__ u32 noise(const Work& w, const Step& r, u32 t, u32 row, u32 c) {
    u32 word = c % 64 / 2;
    u64 position = ((u64)row * ((w.dim + 63) / 64) + c / 64) * 8 + word % 8;
    u64 index = ((u64)r.number[1] << 32 | r.number[0]) << 16 | (w.first_table + t) | (u64)8 << 56;
    Words words = philox(r.key[0], r.key[1], position, (u32)index, (u32)(index >> 32));
    u32 k = word / 8, chosen = k == 0 ? words.w[0] : k == 1 ? words.w[1] : k == 2 ? words.w[2] : words.w[3];
    return chosen >> (c % 2 * 16) & 0xffffu;
}

// Where in table t row `number` is, of which the sorted occurrence i is one: keys are made of these
// bags, so it is in that sample's.
__device__ __forceinline__ u32 place_of_row(const Work& w, u32 t, u32 number, u32 i) {
    if (!w.behind) return number;
    u32 sample = w.samples[i], at = w.id_base[t];
    if (!w.offsets) return w.slots[at + sample];
    const u32* bag = w.offsets + (u64)t * (w.batch + 1) + sample;
    const u32* numbers = w.slots + *w.behind;
    u32 last = at + bag[1] - 1;
    for (at += bag[0]; at < last && numbers[at] != number; ++at) {
    }
    return w.slots[at];
}

// Update of row `row` of table t, whose number is `number`, with gradient `sum`, and of its weight,
// if trained, with gradient `slope`.
template <class F, u32 S>
__device__ __forceinline__ void update_row(const Work& w, const Group& g, const Step& r, const Rows& table, u32 t, u32 row, u32 number,
                                           const float (&sum)[S][4], float slope) {
    u64 at = (u64)row * w.dim;
    float* s0 = reinterpret_cast<float*>(table.state[0]);
    float* s1 = reinterpret_cast<float*>(table.state[1]);
    float* of_row = F::ROW_STATES > 0 ? s1 : s0;
    float c[RULE_CONSTANTS], own = 0.0f, mean_square = 0.0f;
    for (u32 k = 0; k < RULE_CONSTANTS; ++k) c[k] = r.c[k];
    if (F::ROW) own = of_row[row];
    if (F::SQUARES) {
        EACH(s, k) mean_square += sum[s][k] * sum[s][k];
        mean_square = __fdiv_rn(group_sum(w, g, mean_square), (float)w.dim);
    }
    F::row(c, own, mean_square);
    // All lanes have read what lane 0 is about to change.
    __syncwarp(g.mask);
    if (F::ROW && g.lane == 0) of_row[row] = own;
    EACH(s, k) {
        u64 i = at + COLUMN(s, k);
        float v[2] = {F::ROW_STATES > 0 ? s0[i] : 0.0f, F::ROW_STATES > 1 ? s1[i] : 0.0f};
        float p = F::row_element(c, whole(w.kind, table, i), sum[s][k], v);
        if (F::ROW_STATES > 0) s0[i] = v[0];
        if (F::ROW_STATES > 1) s1[i] = v[1];
        keep(w.kind, table, i, p, w.kind == BF16 || w.kind == FP16 ? noise(w, r, t, number, COLUMN(s, k)) : 0u);
    }
    if (!w.learned || g.lane != 0) return;
    // A row of one column.
    float* weight = reinterpret_cast<float*>(table.weights) + row;
    s0 = reinterpret_cast<float*>(table.weight_state[0]) + row;
    s1 = reinterpret_cast<float*>(table.weight_state[1]) + row;
    of_row = F::ROW_STATES > 0 ? s1 : s0;
    for (u32 k = 0; k < RULE_CONSTANTS; ++k) c[k] = r.c[k];
    own = F::ROW ? *of_row : 0.0f;
    F::row(c, own, slope * slope);
    if (F::ROW) *of_row = own;
    float v[2] = {F::ROW_STATES > 0 ? *s0 : 0.0f, F::ROW_STATES > 1 ? *s1 : 0.0f};
    *weight = F::row_element(c, *weight, slope, v);
    if (F::ROW_STATES > 0) *s0 = v[0];
    if (F::ROW_STATES > 1) *s1 = v[1];
}

// The rule for row `number` of table t, of which the sorted occurrence i is one, if there is any. Its
// gradient is `sum` before weight, regularisation and scale. Or what else is asked for.
template <u32 S>
__device__ __forceinline__ void finish(const Work& w, const Group& g, u32 t, u32 number, u32 i, float (&sum)[S][4], double& squares) {
    u32 row = place_of_row(w, t, number, i);
    Rows table = w.tables[t];
    u64 at = (u64)row * w.dim;
    float slope = 0.0f;
    if (w.weighted) {
        float weight = reinterpret_cast<const float*>(table.weights)[row];
        EACH(s, k) {
            slope += sum[s][k] * seen(w.kind, table.values, at + COLUMN(s, k));
            sum[s][k] *= weight;
        }
        slope = group_sum(w, g, slope);
    }
    Step r = {};
    r.scale = 1.0f;
    if (w.mode == UPDATE) r = *w.step;
    // The regularisation is as much too large as all else.
    float l2 = w.l2 != 0.0f ? (float)((double)w.l2 * *w.loss_scale) : 0.0f;
    EACH(s, k) {
        if (w.l2 != 0.0f) sum[s][k] += l2 * whole(w.kind, table, at + COLUMN(s, k));
        sum[s][k] *= r.scale;
    }
    slope *= r.scale;
    bool learned = w.learned && g.lane == 0;
    if (w.mode == SQUARES) {
        EACH(s, k) squares += (double)sum[s][k] * (double)sum[s][k];
        if (learned) squares += (double)slope * (double)slope;
        return;
    }
    if (w.mode == WRITE_OUT) {
        EACH(s, k) w.out_rows[at + COLUMN(s, k)] = sum[s][k];
        if (learned) w.out_weights[row] = slope;
        return;
    }
    WITH_FORMULA(r.kind, update_row<F, S>(w, g, r, table, t, row, number, sum, slope))
}

__device__ __forceinline__ void end(const Work& w, double squares) {
    if (w.mode != SQUARES) return;
    squares = block_sum(squares);
    if (threadIdx.x == 0) w.squares[blockIdx.x] = squares;
}

// Where the span begins of whose group the set's occurrence `at` would be the first: at the next
// multiple of SPAN among its table's, or where that table ends.
__device__ __forceinline__ u32 span_begin(const Work& w, u64 at) {
    u32 n = last_occurrence(w);
    if (at >= n) return n;
    u32 t = table_of(w.id_base, w.table_count, (u32)at), base = w.id_base[t];
    u32 begin = base + ((u32)at - base + SPAN - 1) / SPAN * SPAN;
    return min(begin, w.id_base[t + 1]);
}

// Rows inside one span are done here; sums of the others' parts are left.
template <u32 S>
__device__ __forceinline__ void spans(const Work& w) {
    if (idle(w)) return;
    Group g = group_of(w);
    double squares = 0.0;
    u32 start = first_occurrence(w), n = last_occurrence(w);
    for (u32 q = g.index; start + (u64)q * SPAN < n; q += g.count) {
        u32 first = span_begin(w, start + (u64)q * SPAN), last = span_begin(w, start + (u64)(q + 1) * SPAN), i = first;
        if (first == last) continue;
        u32 t = table_of(w.id_base, w.table_count, first);
        while (i < last) {
            u32 begin = i, key = w.keys[i];
            float sum[S][4] = {};
            while (begin >= w.id_base[t + 1]) ++t;
            while (i < last && w.keys[i] == key) add<S>(w, g, t, i++, sum);
            bool before = begin == first && first > start && w.keys[first - 1] == key;
            bool behind = i == last && last < n && w.keys[last] == key;
            if (before || behind) {
                float* part = w.parts + ((u64)q * 2 + (before ? 0 : 1)) * w.dim;
                EACH(s, k) part[COLUMN(s, k)] = sum[s][k];
            } else {
                finish<S>(w, g, t, key - w.row_base[t], begin, sum, squares);
            }
        }
    }
    end(w, squares);
}

// Rows that begin in a span and reach beyond it.
template <u32 S>
__device__ __forceinline__ void join_spans(const Work& w) {
    if (idle(w)) return;
    Group g = group_of(w);
    double squares = 0.0;
    u32 start = first_occurrence(w), n = last_occurrence(w);
    for (u32 q = g.index; start + (u64)(q + 1) * SPAN < n; q += g.count) {
        u32 first = span_begin(w, start + (u64)q * SPAN), last = span_begin(w, start + (u64)(q + 1) * SPAN);
        if (last == n) continue;
        u32 key = w.keys[last - 1];
        if (w.keys[last] != key || (first > start && w.keys[first - 1] == key)) continue;
        u32 t = table_of(w.id_base, w.table_count, last);
        // The first occurrence of another row.
        u32 low = last, high = w.id_base[t + 1];
        while (low < high) {
            u32 middle = (low + high) / 2;
            if (w.keys[middle] == key) low = middle + 1; else high = middle;
        }
        float sum[S][4] = {};
        EACH(s, k) sum[s][k] = w.parts[((u64)q * 2 + 1) * w.dim + COLUMN(s, k)];
        u32 parts_end = (low - 1 - start) / SPAN;
        if (span_begin(w, start + (u64)parts_end * SPAN) > low - 1) --parts_end;
        for (u32 p = q + 1; p <= parts_end; ++p) {
            EACH(s, k) sum[s][k] += w.parts[(u64)p * 2 * w.dim + COLUMN(s, k)];
        }
        finish<S>(w, g, t, key - w.row_base[t], last, sum, squares);
    }
    end(w, squares);
}

// Rows `row_from..row_to`, touched or not.
template <u32 S>
__device__ __forceinline__ void all_rows(const Work& w) {
    if (idle(w)) return;
    Group g = group_of(w);
    double squares = 0.0;
    for (u64 row = (u64)w.row_from + g.index; row < w.row_to; row += g.count) {
        u32 t = table_of(w.row_base, w.table_count, (u32)row);
        u32 low = w.id_base[t], end = w.id_base[t + 1], high = end;
        while (low < high) {
            u32 middle = (low + high) / 2;
            if (w.keys[middle] < row) low = middle + 1; else high = middle;
        }
        float sum[S][4] = {};
        for (u32 i = low; i < end && w.keys[i] == row; ++i) add<S>(w, g, t, i, sum);
        finish<S>(w, g, t, (u32)row - w.row_base[t], low, sum, squares);
    }
    end(w, squares);
}

KERNEL spans_1(Work w) { spans<1>(w); }
KERNEL spans_2(Work w) { spans<2>(w); }
KERNEL spans_8(Work w) { spans<8>(w); }
KERNEL join_spans_1(Work w) { join_spans<1>(w); }
KERNEL join_spans_2(Work w) { join_spans<2>(w); }
KERNEL join_spans_8(Work w) { join_spans<8>(w); }
KERNEL all_rows_1(Work w) { all_rows<1>(w); }
KERNEL all_rows_2(Work w) { all_rows<2>(w); }
KERNEL all_rows_8(Work w) { all_rows<8>(w); }
