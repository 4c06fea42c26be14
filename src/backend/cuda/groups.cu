// Which samples touch which row: occurrences sorted by row, and by sample within a row (radix.cuh).
// A key is the row's number among the rows of all tables, a value the sample. Where ids are slots, a
// row's number is what stands behind all ids for it, of which there are `*behind`.

// Keys and values in the order of the tables, then of the samples; `blockIdx.y` is the table.
// Offsets as in bags.cu.
KERNEL occurrences(const u32* offsets, const u32* id_base, const u32* ids, const u32* behind, const u32* row_base,
                   u32 samples, u32* keys, u32* values) {
    u32 t = blockIdx.y;
    u32 base = id_base[t], row = row_base[t];
    if (behind) ids += *behind;
    FOR_ALL(b, samples) {
        u32 from = (u32)b, to = (u32)b + 1;
        if (offsets) {
            from = offsets[(u64)t * (samples + 1) + b];
            to = offsets[(u64)t * (samples + 1) + b + 1];
        }
        for (u32 i = from; i < to; ++i) {
            keys[base + i] = row + ids[base + i];
            values[base + i] = (u32)b;
        }
    }
}
