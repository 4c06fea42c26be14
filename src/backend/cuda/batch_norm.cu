// Batch normalisation, maybe with a ReLU behind it (Ioffe & Szegedy 2015, arXiv:1502.03167;
// torch.nn.BatchNorm1d). Columns are summed over blocks of rows in f32 and blocks in their order in
// f64, operation by operation as on the CPU.

// Block `b` of `block` rows: partial[b] = mean of each column, then its sum of squared distances
// from it
KERNEL moments_part(const float* z, u32 stride, u32 rows, u32 cols, u32 block, float* partial) {
    u32 b = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    u64 first = (u64)b * block, end = min((u64)rows, first + block);
    float mean = 0.0f, squares = 0.0f;
    for (u64 r = first; r < end; ++r) mean += z[r * stride + c];
    mean = __fdiv_rn(mean, (float)(end - first));
    for (u64 r = first; r < end; ++r) {
        float d = z[r * stride + c] - mean;
        squares += d * d;
    }
    partial[(u64)b * 2 * cols + c] = mean;
    partial[((u64)b * 2 + 1) * cols + c] = squares;
}

// stats = [mean, 1 / sqrt(biased variance + eps)]; blocks joined as in Chan, Golub & LeVeque 1979.
// The running statistics move, unless the training has stopped before this step.
KERNEL moments_join(const float* partial, u32 rows, u32 cols, u32 block, float eps, float momentum, u32 unbiased, const u32* stopped,
                    float* stats, float* running_mean, float* running_var) {
    u32 c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    double mean = 0.0, squares = 0.0, count = 0.0, n = rows;
    for (u32 b = 0; b * block < rows; ++b) {
        double k = min(block, rows - b * block);
        double delta = (double)partial[(u64)b * 2 * cols + c] - mean;
        squares += (double)partial[((u64)b * 2 + 1) * cols + c] + delta * delta * count * k / (count + k);
        mean += delta * k / (count + k);
        count += k;
    }
    stats[c] = (float)mean;
    stats[cols + c] = (float)(1.0 / sqrt(squares / n + (double)eps));
    if (*stopped) return;
    double var = squares / (!unbiased ? n : n > 2.0 ? n - 1.0 : 1.0);
    running_mean[c] += momentum * ((float)mean - running_mean[c]);
    running_var[c] += momentum * ((float)var - running_var[c]);
}

// stats from the running statistics
KERNEL running_stats(const float* running_mean, const float* running_var, u32 cols, float eps, float* stats) {
    u32 c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    stats[c] = running_mean[c];
    stats[cols + c] = __fdiv_rn(1.0f, __fsqrt_rn(running_var[c] + eps));
}

// y = scale * (z - mean) * rstd + shift, then max(y, 0) if `relu`
KERNEL normalise(const float* z, u32 z_stride, u32 rows, u32 cols, const float* stats, const float* scale, const float* shift, u32 relu,
                 float* y, u32 y_stride) {
    FOR_ROWS(r, rows) FOR_COLS(c, cols) {
        float v = (z[r * z_stride + c] - stats[c]) * stats[cols + c] * scale[c] + shift[c];
        y[r * y_stride + c] = v > 0.0f || !relu ? v : 0.0f;
    }
}

// Block `b` of `block` rows: partial[b] = sums of g, then of g * x, x = (z - mean) * rstd
KERNEL norm_sums_part(const float* z, u32 z_stride, u32 rows, u32 cols, u32 block, const float* stats, const float* g, u32 g_stride,
                      float* partial) {
    u32 b = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    u64 first = (u64)b * block, end = min((u64)rows, first + block);
    float sum = 0.0f, product = 0.0f;
    for (u64 r = first; r < end; ++r) {
        float v = g[r * g_stride + c];
        sum += v;
        product += v * ((z[r * z_stride + c] - stats[c]) * stats[cols + c]);
    }
    partial[(u64)b * 2 * cols + c] = sum;
    partial[((u64)b * 2 + 1) * cols + c] = product;
}

// d_shift = sum of g, d_scale = sum of g * x
KERNEL norm_sums_join(const float* partial, u32 blocks, u32 cols, float* d_scale, float* d_shift) {
    u32 c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    double sum = 0.0, product = 0.0;
    for (u32 b = 0; b < blocks; ++b) {
        sum += (double)partial[(u64)b * 2 * cols + c];
        product += (double)partial[((u64)b * 2 + 1) * cols + c];
    }
    d_shift[c] = (float)sum;
    d_scale[c] = (float)product;
}

// g = scale * rstd * (g - mean(g) - x * mean(g * x))
KERNEL norm_backward(const float* z, u32 z_stride, u32 rows, u32 cols, const float* stats, const float* scale, const float* d_scale,
                     const float* d_shift, float share, float* g, u32 g_stride) {
    FOR_ROWS(r, rows) FOR_COLS(c, cols) {
        float x = (z[r * z_stride + c] - stats[c]) * stats[cols + c];
        float* to = g + r * g_stride + c;
        *to = scale[c] * stats[cols + c] * (*to - d_shift[c] * share - x * (d_scale[c] * share));
    }
}
