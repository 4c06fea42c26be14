// Pooling of factorisation machines (Rendle 2010), and dense columns as fields.

// logits[r] += sum of linear[r, ..] + 0.5 * sum_k ((sum_i v_ik)^2 - sum_i v_ik^2); `blockDim.x`
// lanes (a power of 2, at most 32) a sample.
KERNEL fm_forward(const float* v, u32 v_stride, u32 rows, u32 fields, u32 dim, const float* linear, u32 linear_stride, float* logits,
                  u32 logits_stride) {
    u32 lanes = blockDim.x, lane = threadIdx.x, in_warp = (threadIdx.y * lanes + lane) % 32;
    u32 mask = lanes == 32 ? FULL : ((1u << lanes) - 1u) << (in_warp / lanes * lanes);
    FOR_ROWS(r, rows) {
        float first = 0.0f, second = 0.0f;
        for (u32 i = lane; i < fields; i += lanes) first += linear[r * linear_stride + i];
        for (u32 c = lane; c < dim; c += lanes) {
            float sum = 0.0f, squares = 0.0f;
            for (u32 i = 0; i < fields; ++i) {
                float x = v[r * v_stride + (u64)i * dim + c];
                sum += x;
                squares = fmaf(x, x, squares);
            }
            second += sum * sum - squares;
        }
        float total = first + 0.5f * second;
        for (u32 step = lanes / 2; step > 0; step /= 2) total += __shfl_xor_sync(mask, total, step);
        if (lane == 0) logits[r * logits_stride] += total;
    }
}

// dv_i += dlogit * (sum_j v_j - v_i); dlinear = dlogit in all columns
KERNEL fm_backward(const float* v, u32 v_stride, u32 rows, u32 fields, u32 dim, const float* dlogits, u32 dlogits_stride, float* dv,
                   u32 dv_stride, float* dlinear, u32 dlinear_stride) {
    FOR_ROWS(r, rows) {
        float g = dlogits[r * dlogits_stride];
        FOR_COLS(i, fields) dlinear[r * dlinear_stride + i] = g;
        FOR_COLS(c, dim) {
            float sum = 0.0f;
            for (u32 i = 0; i < fields; ++i) sum += v[r * v_stride + (u64)i * dim + c];
            for (u32 i = 0; i < fields; ++i) {
                u64 at = (u64)i * dim + c;
                float* to = dv + r * dv_stride + at;
                *to = fmaf(g, sum - v[r * v_stride + at], *to);
            }
        }
    }
}

// out[r, j * dim + k] = x[r, j] * w[j, k]
KERNEL fields_forward(const float* x, u32 x_stride, u32 rows, u32 columns, u32 dim, const float* w, float* out, u32 out_stride) {
    FOR_ROWS(r, rows) FOR_COLS(c, columns * dim) out[r * out_stride + c] = x[r * x_stride + c / dim] * w[c];
}

// Block `b` of `block` rows: partial[b, c] = sum of x[r, c / dim] * dout[r, c]
KERNEL fields_backward(const float* x, u32 x_stride, u32 rows, u32 columns, u32 dim, const float* dout, u32 dout_stride, u32 block,
                       float* partial) {
    u32 b = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= columns * dim) return;
    u64 end = min((u64)rows, (u64)(b + 1) * block);
    float sum = 0.0f;
    for (u64 r = (u64)b * block; r < end; ++r) sum += x[r * x_stride + c / dim] * dout[r * dout_stride + c];
    partial[(u64)b * columns * dim + c] = sum;
}
