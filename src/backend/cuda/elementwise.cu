// dx = x > 0 ? dx * factor : 0, each of its own kind of numbers
KERNEL gate(u64 x, u32 x_kind, u32 x_stride, u64 dx, u32 dx_kind, u32 dx_stride, u32 rows, u32 cols, float factor) {
    FOR_ROWS(r, rows) FOR_COLS(c, cols) {
        u64 at = r * dx_stride + c;
        set(dx_kind, dx, at, seen(x_kind, x, r * x_stride + c) > 0.0f ? seen(dx_kind, dx, at) * factor : 0.0f);
    }
}

// flag = 1 if an element is infinite or NaN. Whoever writes, writes the same. Several blocks may
// share a row.
KERNEL not_finite(u64 x, u32 kind, u32 stride, u32 rows, u32 cols, u32* flag) {
    FOR_ROWS(r, rows) for (u64 c = blockIdx.y * blockDim.x + threadIdx.x; c < cols; c += gridDim.y * blockDim.x) {
        if ((__float_as_uint(seen(kind, x, r * stride + c)) & 0x7f800000u) == 0x7f800000u) *flag = 1;
    }
}

// x = value
KERNEL fill(u64 x, u32 kind, u64 n, float value) { FOR_ALL(i, n) set(kind, x, i, value); }

// y = max(z + bias, 0) or z + bias, the bias rounded to y's numbers as cuBLASLt wants it; bias may
// be null
KERNEL bias_relu(const float* z, u32 z_stride, u32 rows, u32 cols, const float* bias, u32 relu, u64 y, u32 kind, u32 stride) {
    FOR_ROWS(r, rows) FOR_COLS(c, cols) {
        float v = z[r * z_stride + c];
        if (bias) v += nearest(kind, bias[c]);
        set(kind, y, r * stride + c, relu && !(v > 0.0f) ? 0.0f : v);
    }
}

// to = x, or to += x if `there`, each of its own kind of numbers
KERNEL add(u64 x, u32 x_kind, u32 x_stride, u32 rows, u32 cols, u32 there, u64 to, u32 to_kind, u32 to_stride) {
    FOR_ROWS(r, rows) FOR_COLS(c, cols) {
        u64 at = r * to_stride + c;
        float v = seen(x_kind, x, r * x_stride + c);
        set(to_kind, to, at, there ? seen(to_kind, to, at) + v : v);
    }
}

// out = a * b + c, each of its own kind of numbers; c may be null
KERNEL multiply_add(u64 a, u32 a_kind, u32 a_stride, u64 b, u32 b_kind, u32 b_stride, u64 c, u32 c_kind, u32 c_stride, u32 rows,
                    u32 cols, u64 out, u32 out_kind, u32 out_stride) {
    FOR_ROWS(r, rows) FOR_COLS(i, cols) {
        float v = seen(a_kind, a, r * a_stride + i) * seen(b_kind, b, r * b_stride + i);
        set(out_kind, out, r * out_stride + i, c ? v + seen(c_kind, c, r * c_stride + i) : v);
    }
}

// db = a * g, da = b * g; g is added to da if `sum`, and what is there if `there`
KERNEL multiply_add_backward(u64 a, u32 a_kind, u32 a_stride, u64 b, u32 b_kind, u32 b_stride, u64 g, u32 g_kind, u32 g_stride, u32 rows,
                             u32 cols, u32 there, u32 sum, u64 da, u32 da_kind, u32 da_stride, u64 db, u32 db_kind, u32 db_stride) {
    FOR_ROWS(r, rows) FOR_COLS(i, cols) {
        float d = seen(g_kind, g, r * g_stride + i);
        float own = seen(b_kind, b, r * b_stride + i) * d;
        if (sum) own += d;
        u64 at = r * da_stride + i;
        set(db_kind, db, r * db_stride + i, seen(a_kind, a, r * a_stride + i) * d);
        set(da_kind, da, at, there ? seen(da_kind, da, at) + own : own);
    }
}

// out = x, each element rounded to the nearest of a 16-bit kind; zeros in columns cols..padded
KERNEL round16(const float* x, u32 stride, u32 rows, u32 cols, u16* out, u32 padded, u32 kind) {
    FOR_ROWS(r, rows) FOR_COLS(c, padded) {
        float v = c < cols ? x[r * stride + c] : 0.0f;
        out[r * padded + c] = kind == BF16 ? to_bf16(v) : to_f16(v);
    }
}

// Block `b` of `block` rows: partial[b, c] = sum of x over its rows, in their order.
KERNEL column_sums_part(u64 x, u32 kind, u32 stride, u32 rows, u32 cols, u32 block, float* partial) {
    u32 b = blockIdx.x, c = blockIdx.y * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    u64 end = min((u64)rows, (u64)(b + 1) * block);
    float sum = 0.0f;
    for (u64 r = (u64)b * block; r < end; ++r) sum += seen(kind, x, r * stride + c);
    partial[(u64)b * cols + c] = sum;
}

// out[c] = sum of partial[.., c] in the order of the blocks, in f64
KERNEL column_sums_join(const float* partial, u32 blocks, u32 cols, float* out) {
    u32 c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= cols) return;
    double sum = 0.0;
    for (u32 b = 0; b < blocks; ++b) sum += (double)partial[(u64)b * cols + c];
    out[c] = (float)sum;
}

// Block `blockIdx.x`: partial = sum of squares of its elements in f64
KERNEL squares_part(const float* x, u64 n, double* partial) {
    double sum = 0.0;
    FOR_ALL(i, n) sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// out += sum of n numbers; one block
KERNEL add_sum(const double* partial, u64 n, double* out) {
    double sum = 0.0;
    for (u64 i = threadIdx.x; i < n; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out += sum;
}
