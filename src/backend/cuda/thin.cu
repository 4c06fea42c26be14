// Fully connected layers with a single output: bound by memory, so nothing is rounded that is not
// kept so. 32 lanes a row. Matrices of the batch come with the kind of their numbers.

// y[r] = act(<x_r, w> + b); b may be null
KERNEL thin_forward(u64 x, u32 x_kind, u32 stride, u32 rows, u32 inputs, const float* w, const float* b, u32 relu, u64 y, u32 y_kind,
                    u32 y_stride) {
    u32 lane = threadIdx.x;
    FOR_ROWS(r, rows) {
        float sum = 0.0f;
        for (u32 c = lane; c < inputs; c += 32) sum = fmaf(seen(x_kind, x, r * stride + c), w[c], sum);
        for (u32 step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(FULL, sum, step);
        if (lane == 0) {
            float v = b ? sum + *b : sum;
            set(y_kind, y, r * y_stride, relu && !(v > 0.0f) ? 0.0f : v);
        }
    }
}

// dx[r, c] = dy[r] * w[c], gated by `activation` if there is one; added to dx if `add`
KERNEL thin_backward_data(u64 dy, u32 dy_kind, u32 dy_stride, u32 rows, u32 inputs, const float* w, u64 activation, u32 activation_kind,
                          u32 activation_stride, float factor, u32 add, u64 dx, u32 dx_kind, u32 dx_stride) {
    FOR_ROWS(r, rows) {
        float g = seen(dy_kind, dy, r * dy_stride);
        FOR_COLS(c, inputs) {
            float v = g * w[c];
            if (activation) v = seen(activation_kind, activation, r * activation_stride + c) > 0.0f ? v * factor : 0.0f;
            u64 at = r * dx_stride + c;
            set(dx_kind, dx, at, add ? seen(dx_kind, dx, at) + v : v);
        }
    }
}

// Block `b` of `block` rows: partial[b, c] = sum of dy[r] * x[r, c], and in column `inputs` the sum
// of dy
KERNEL thin_backward_weight(u64 dy, u32 dy_kind, u32 dy_stride, u64 x, u32 x_kind, u32 stride, u32 rows, u32 inputs, u32 block,
                            float* partial) {
    u32 b = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c > inputs) return;
    u64 end = min((u64)rows, (u64)(b + 1) * block);
    float sum = 0.0f;
    for (u64 r = (u64)b * block; r < end; ++r) {
        float g = seen(dy_kind, dy, r * dy_stride);
        sum = c < inputs ? fmaf(g, seen(x_kind, x, r * stride + c), sum) : sum + g;
    }
    partial[(u64)b * (inputs + 1) + c] = sum;
}

// dw[c], db = sums of the partials in the order of the blocks; db may be null
KERNEL thin_backward_join(const float* partial, u32 blocks, u32 inputs, float* dw, float* db) {
    u32 c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c > inputs || (c == inputs && !db)) return;
    double sum = 0.0;
    for (u32 b = 0; b < blocks; ++b) sum += (double)partial[(u64)b * (inputs + 1) + c];
    *(c < inputs ? dw + c : db) = (float)sum;
}
