// Dot interaction of DLRM (facebookresearch/dlrm: dlrm_s_pytorch.py, `interact_features`), a sample
// a block. T [n, d] -> R = concat[T_0, <T_i, T_j> for i > j], row-major over the lower triangle (i
// >= j with `self_interaction`), zeros up to `cols`.

// Blocks of 4 x 4 products; four neighbouring lanes share one, each taking every fourth column of
// T. T waits in shared memory, rows of `pitch` floats (a multiple of 4, and not of 32), `tiles` * 4
// of them, zeros in those that T has not.
KERNEL dot_forward(const float* t, u32 t_stride, u32 samples, u32 n, u32 d, u32 self_interaction, u32 pitch, float* out,
                   u32 out_stride, u32 cols) {
    DYNAMIC_SHARED(float, rows);
    u32 tiles = (n + 3) / 4, blocks = tiles * (tiles + 1) / 2;
    for (u32 b = blockIdx.x; b < samples; b += gridDim.x) {
        const float* from = t + (u64)b * t_stride;
        float* to = out + (u64)b * out_stride;
        __syncthreads();
        for (u32 i = threadIdx.y; i < tiles * 4; i += blockDim.y)
            for (u32 c = threadIdx.x; c < pitch; c += 32) rows[i * pitch + c] = i < n && c < d ? from[i * d + c] : 0.0f;
        __syncthreads();
        u32 thread = threadIdx.y * 32 + threadIdx.x, part = thread % 4, threads = blockDim.y * 32;
        for (u32 c = thread; c < d; c += threads) to[c] = rows[c];
        u32 width = d + pairs_before(n, self_interaction);
        for (u32 c = width + thread; c < cols; c += threads) to[c] = 0.0f;
        // Whole warps stay together, since lanes add their sums.
        for (u32 start = thread / 32 * 8; start < blocks; start += threads / 4) {
            u32 block = start + thread % 32 / 4, ti = 0;
            bool real = block < blocks;
            if (!real) block = 0;
            while ((ti + 1) * (ti + 2) / 2 <= block) ++ti;
            u32 tj = block - ti * (ti + 1) / 2;
            const float4* left = reinterpret_cast<const float4*>(rows + ti * 4 * pitch);
            const float4* right = reinterpret_cast<const float4*>(rows + tj * 4 * pitch);
            float sum[4][4] = {};
            for (u32 c = part; c < pitch / 4; c += 4) {
                float4 a[4], e[4];
                for (u32 k = 0; k < 4; ++k) {
                    a[k] = left[k * (pitch / 4) + c];
                    e[k] = right[k * (pitch / 4) + c];
                }
                for (u32 i = 0; i < 4; ++i)
                    for (u32 j = 0; j < 4; ++j)
                        sum[i][j] = fmaf(a[i].w, e[j].w, fmaf(a[i].z, e[j].z, fmaf(a[i].y, e[j].y, fmaf(a[i].x, e[j].x, sum[i][j]))));
            }
            for (u32 i = 0; i < 4; ++i)
                for (u32 j = 0; j < 4; ++j) {
                    float v = sum[i][j];
                    v += __shfl_xor_sync(FULL, v, 1);
                    v += __shfl_xor_sync(FULL, v, 2);
                    u32 row = ti * 4 + i, column = tj * 4 + j;
                    if (real && part == i && row < n && column < row + self_interaction)
                        to[d + pairs_before(row, self_interaction) + column] = v;
                }
        }
    }
}

// dT = (G + G^T) T, G the triangle of dR's pairs; dR's direct part to row 0. A thread a column; the
// symmetric matrix waits in shared memory, rows of `pitch` floats (a multiple of 16 that holds n).
KERNEL dot_backward(const float* t, u32 t_stride, u32 samples, u32 n, u32 d, u32 self_interaction, u32 pitch,
                    const float* dout, u32 dout_stride, float* dt, u32 dt_stride) {
    DYNAMIC_SHARED(float, both);
    for (u32 b = blockIdx.x; b < samples; b += gridDim.x) {
        const float* from = t + (u64)b * t_stride;
        const float* pairs = dout + (u64)b * dout_stride;
        float* to = dt + (u64)b * dt_stride;
        __syncthreads();
        for (u32 e = threadIdx.x; e < n * pitch; e += blockDim.x) {
            u32 i = e / pitch, j = e % pitch, row = max(i, j), column = min(i, j);
            float v = 0.0f;
            if (row < n && column < row + self_interaction) v = pairs[d + pairs_before(row, self_interaction) + column];
            both[e] = i == j ? 2.0f * v : v;
        }
        __syncthreads();
        for (u32 c = threadIdx.x; c < d; c += blockDim.x)
            for (u32 first = 0; first < n; first += 16) {
                float sum[16] = {};
                for (u32 j = 0; j < n; ++j) {
                    float x = from[j * d + c];
                    const float4* g = reinterpret_cast<const float4*>(both + j * pitch + first);
                    for (u32 q = 0; q < 4; ++q) {
                        float4 v = g[q];
                        sum[4 * q] = fmaf(v.x, x, sum[4 * q]);
                        sum[4 * q + 1] = fmaf(v.y, x, sum[4 * q + 1]);
                        sum[4 * q + 2] = fmaf(v.z, x, sum[4 * q + 2]);
                        sum[4 * q + 3] = fmaf(v.w, x, sum[4 * q + 3]);
                    }
                }
                for (u32 i = 0; i < 16; ++i)
                    if (first + i < n) to[(first + i) * d + c] = sum[i] + (first + i == 0 ? pairs[c] : 0.0f);
            }
    }
}
