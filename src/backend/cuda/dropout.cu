// Element (r, c) draws word (first + r) * cols + c of the stream (key, high), which is that of the layer in
// step 0, in step `number`: dropped if its upper 24 bits are below `threshold`, else times
// `factor`.
KERNEL dropout(float* x, u32 stride, u32 first, u32 rows, u32 cols, u32 key0, u32 key1, u32 high0, u32 high1, const u64* number, u32 threshold,
               float factor) {
    // src/random/philox.rs, `dropout`
    u64 step = *number << 16;
    high0 |= (u32)step;
    high1 |= (u32)(step >> 32);
    FOR_ROWS(r, rows) FOR_COLS(c, cols) {
        u64 element = (first + r) * cols + c;
        Words words = philox(key0, key1, element / 4, high0, high1);
        u32 k = (u32)element % 4;
        u32 word = k == 0 ? words.w[0] : k == 1 ? words.w[1] : k == 2 ? words.w[2] : words.w[3];
        float* to = x + r * stride + c;
        *to = word >> 8 >= threshold ? *to * factor : 0.0f;
    }
}
