// The lower triangle of a symmetric matrix, row by row (i >= j with `self_interaction`, else i > j).

// Pairs of the rows before row i.
__device__ __forceinline__ u32 pairs_before(u32 i, u32 self_interaction) {
    return self_interaction ? i * (i + 1) / 2 : i * (i - 1) / 2;
}
