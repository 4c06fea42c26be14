// Products of two small matrices a sample, a sample a block: P [left, inner] by Q [inner, right],
// each row-major in a row of a matrix of the batch, each of its own kind of numbers.

// out = concat[x, P Q]
KERNEL products_forward(u64 x, u32 x_kind, u32 x_stride, u32 cols, u64 p, u32 p_kind, u32 p_stride, u64 q, u32 q_kind, u32 q_stride,
                        u32 samples, u32 left, u32 inner, u32 right, u64 out, u32 out_kind, u32 out_stride) {
    for (u64 b = blockIdx.x; b < samples; b += gridDim.x) {
        for (u32 c = threadIdx.x; c < cols; c += blockDim.x) set(out_kind, out, b * out_stride + c, seen(x_kind, x, b * x_stride + c));
        for (u32 e = threadIdx.x; e < left * right; e += blockDim.x) {
            u64 from = b * p_stride + (u64)(e / right) * inner, column = b * q_stride + e % right;
            float sum = 0.0f;
            for (u32 k = 0; k < inner; ++k) sum = fmaf(seen(p_kind, p, from + k), seen(q_kind, q, column + (u64)k * right), sum);
            set(out_kind, out, b * out_stride + cols + e, sum);
        }
    }
}

// dP = G Q^T, dQ = P^T G; G [left, right] begins at column `at` of g
KERNEL products_backward(u64 p, u32 p_kind, u32 p_stride, u64 q, u32 q_kind, u32 q_stride, u64 g, u32 g_kind, u32 g_stride, u32 at,
                         u32 samples, u32 left, u32 inner, u32 right, u64 dp, u32 dp_kind, u32 dp_stride, u64 dq, u32 dq_kind,
                         u32 dq_stride) {
    for (u64 b = blockIdx.x; b < samples; b += gridDim.x) {
        u64 p_row = b * p_stride, q_row = b * q_stride, g_row = b * g_stride + at;
        for (u32 e = threadIdx.x; e < left * inner; e += blockDim.x) {
            u64 i = e / inner, k = e % inner;
            float sum = 0.0f;
            for (u32 j = 0; j < right; ++j) sum = fmaf(seen(g_kind, g, g_row + i * right + j), seen(q_kind, q, q_row + k * right + j), sum);
            set(dp_kind, dp, b * dp_stride + e, sum);
        }
        for (u32 e = threadIdx.x; e < inner * right; e += blockDim.x) {
            u64 k = e / right, j = e % right;
            float sum = 0.0f;
            for (u32 i = 0; i < left; ++i)
                sum = fmaf(seen(p_kind, p, p_row + (u64)i * inner + k), seen(g_kind, g, g_row + (u64)i * right + j), sum);
            set(dq_kind, dq, b * dq_stride + e, sum);
        }
    }
}
