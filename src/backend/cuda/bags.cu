// Embedding bags: the rows of each bag pooled into one vector, all tables of a set in one launch
// (`blockIdx.y` is the table). A group of `blockDim.x` lanes makes a bag's vector, four columns a
// lane; ids are added in their order, so the bits are those of the CPU.

struct Four { float v[4]; };

// Elements at..at + n of a table as lookups see them, at most four; at once where `aligned` (dim is
// a multiple of 4).
__device__ __forceinline__ Four load_four(u32 kind, u64 values, u64 at, u32 n, u32 aligned) {
    Four f;
    if (aligned && kind == FP32) {
        float4 x = reinterpret_cast<const float4*>(values)[at / 4];
        f = Four{{x.x, x.y, x.z, x.w}};
    } else if (aligned) {
        uint2 x = reinterpret_cast<const uint2*>(values)[at / 4];
        u32 words[2] = {x.x, x.y};
        for (u32 i = 0; i < 4; ++i) {
            u16 h = (u16)(words[i / 2] >> (i % 2 * 16));
            f.v[i] = kind == FP16 ? from_f16(h) : from_bf16(h);
        }
    } else {
        for (u32 i = 0; i < 4; ++i) f.v[i] = i < n ? seen(kind, values, at + i) : 0.0f;
    }
    return f;
}

// Elements at..at + n of numbers of a kind (FP32, BF16, FP16), at most four; at once where
// `aligned`.
__device__ __forceinline__ void store_four(u32 kind, u64 values, u64 at, Four f, u32 n, u32 aligned) {
    if (aligned && kind == FP32) {
        reinterpret_cast<float4*>(values)[at / 4] = float4{f.v[0], f.v[1], f.v[2], f.v[3]};
    } else if (aligned) {
        u32 h[4];
        for (u32 i = 0; i < 4; ++i) h[i] = kind == FP16 ? to_f16(f.v[i]) : to_bf16(f.v[i]);
        reinterpret_cast<uint2*>(values)[at / 4] = uint2{h[0] | h[1] << 16, h[2] | h[3] << 16};
    } else {
        for (u32 i = 0; i < 4; ++i)
            if (i < n) set(kind, values, at + i, f.v[i]);
    }
}

// out[b, t * dim + c] = share * sum over the bag of weight * row. `offsets` are null if every bag
// has one id; those of table t begin at t * (samples + 1), its ids at id_base[t].
KERNEL bags_forward(const Rows* tables, u32 kind, u32 dim, u32 aligned, const u32* offsets, const u32* id_base, const u32* ids,
                    u32 samples, u32 mean, u32 weighted, u64 out, u32 out_kind, u32 stride, u32 out_aligned) {
    u32 t = blockIdx.y;
    u64 values = tables[t].values;
    const float* weights = weighted ? reinterpret_cast<const float*>(tables[t].weights) : nullptr;
    const u32* own = ids + id_base[t];
    FOR_ROWS(b, samples) {
        u32 from = (u32)b, to = (u32)b + 1;
        if (offsets) {
            from = offsets[(u64)t * (samples + 1) + b];
            to = offsets[(u64)t * (samples + 1) + b + 1];
        }
        float share = mean && to - from > 1 ? __fdiv_rn(1.0f, (float)(to - from)) : 1.0f;
        for (u32 c = 4 * threadIdx.x; c < dim; c += 4 * blockDim.x) {
            Four sum = Four{{0.0f, 0.0f, 0.0f, 0.0f}};
            for (u32 i = from; i < to; ++i) {
                u32 id = own[i];
                float weight = weights ? weights[id] : 1.0f;
                Four row = load_four(kind, values, (u64)id * dim + c, dim - c, aligned);
                for (u32 k = 0; k < 4; ++k) sum.v[k] += weight * row.v[k];
            }
            u64 at = b * stride + (u64)t * dim + c;
            for (u32 k = 0; k < 4; ++k) sum.v[k] *= share;
            store_four(out_kind, out, at, sum, dim - c, out_aligned);
        }
    }
}

// Tables to and from f32, for reading and writing them as a whole: elements at..at + n.
KERNEL widen(const Rows* tables, u32 t, u32 kind, u64 at, u64 n, float* out) {
    FOR_ALL(i, n) out[i] = whole(kind, tables[t], at + i);
}

// Each rounded to the nearest that can be kept.
KERNEL narrow(const Rows* tables, u32 t, u32 kind, u64 at, u64 n, const float* from) {
    FOR_ALL(i, n) {
        if (kind == BF16 || kind == FP16) {
            reinterpret_cast<u16*>(tables[t].values)[at + i] = kind == FP16 ? to_f16(from[i]) : to_bf16(from[i]);
        } else {
            keep(kind, tables[t], at + i, from[i], 0);
        }
    }
}
