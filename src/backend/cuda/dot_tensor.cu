// Dot interaction of DLRM (interaction.cu) by tensor cores: a sample a warp, everything but the
// pairs in registers. T [n, d] and what belongs to it are of one kind of numbers N; features are
// taken in blocks of 32 and padded with zeros, so that any n and d will do.
//
// No element of T is ever moved between lanes. In a product the order of the terms is free, so
// lanes read 16 bytes of a row at a time and call them the terms that they hold in the fragments;
// in the gradient, where terms go along the rows of T, the order of the columns is free as well.

// 16 bytes of a row.
struct Piece { u32 w[4]; };

__device__ __forceinline__ u32 bits_of(u16 x) { return x; }
__device__ __forceinline__ u32 bits_of(float x) { return __float_as_uint(x); }

// Elements at..at + EACH of a row that has d, zeros behind them; at once if `pieces` (d is a
// multiple of EACH, and addresses of 16 bytes).
template <class N>
__device__ __forceinline__ Piece load_piece(const typename N::Number* row, u32 at, u32 d, bool there, u32 pieces) {
    Piece x = Piece{{0u, 0u, 0u, 0u}};
    if (!there || at >= d) return x;
    if (pieces) {
        uint4 all = *reinterpret_cast<const uint4*>(row + at);
        return Piece{{all.x, all.y, all.z, all.w}};
    }
    const u32 bits = 128 / N::EACH;
#pragma unroll
    for (u32 e = 0; e < N::EACH; ++e)
        if (at + e < d) x.w[e * bits / 32] |= bits_of(row[at + e]) << (e * bits % 32);
    return x;
}

// The same as operands.
template <class N>
__device__ __forceinline__ Piece load_operand(const typename N::Number* row, u32 at, u32 d, bool there, u32 pieces) {
    Piece x = load_piece<N>(row, at, d, there, pieces);
#pragma unroll
    for (u32 k = 0; k < 4; ++k) x.w[k] = N::operand(x.w[k]);
    return x;
}

template <class N>
__device__ __forceinline__ void store_piece(typename N::Number* row, u32 at, u32 d, const float (&v)[N::EACH], u32 pieces) {
    if (at >= d) return;
    const u32 bits = 128 / N::EACH;
    Piece x = Piece{{0u, 0u, 0u, 0u}};
#pragma unroll
    for (u32 e = 0; e < N::EACH; ++e) x.w[e * bits / 32] |= bits_of(N::narrow(v[e])) << (e * bits % 32);
    if (pieces) {
        *reinterpret_cast<uint4*>(row + at) = uint4{x.w[0], x.w[1], x.w[2], x.w[3]};
        return;
    }
#pragma unroll
    for (u32 e = 0; e < N::EACH; ++e)
        if (at + e < d) row[at + e] = N::narrow(v[e]);
}

// Elements of `from` to `to`, by a warp.
template <class N>
__device__ __forceinline__ void copy(typename N::Number* to, const typename N::Number* from, u32 n, u32 pieces) {
    u32 lane = threadIdx.x % 32, whole = pieces ? n / N::EACH : 0;
    for (u32 c = lane; c < whole; c += 32) reinterpret_cast<uint4*>(to)[c] = reinterpret_cast<const uint4*>(from)[c];
    for (u32 c = whole * N::EACH + lane; c < n; c += 32) to[c] = from[c];
}

struct Shape {
    u32 samples, n, d, self_interaction;
    // Elements from one sample to the next: of T, of R or dR, and of dT.
    u32 t_stride, r_stride, dt_stride;
    // Columns of R, zeros behind the pairs; numbers of shared memory of a warp, whole pieces.
    u32 cols, shared;
    // Whether T's rows, what is behind them in R, and dT's rows are read and written in pieces.
    u32 t_pieces, r_pieces, dt_pieces;
};

// R = concat[T_0, <T_i, T_j> for i > j (i >= j)], by way of shared memory.
template <class N>
__device__ __forceinline__ void forward(const Shape& s, const typename N::Number* t, typename N::Number* out) {
    typedef typename N::Number Number;
    DYNAMIC_SHARED(Number, memory);
    u32 warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    Number* pairs = memory + warp * s.shared;
    u32 blocks = (s.n + 31) / 32, count = pairs_before(s.n, s.self_interaction);
    for (u32 b = blockIdx.x * warps + warp; b < s.samples; b += gridDim.x * warps) {
        const Number* from = t + (u64)b * s.t_stride;
        Number* to = out + (u64)b * s.r_stride;
        for (u32 i = 0; i < blocks; ++i)
            for (u32 j = 0; j <= i; ++j) {
                float sum[2][4][4] = {};
#pragma unroll 2
                for (u32 k = q * N::EACH; k < s.d + q * N::EACH; k += 4 * N::EACH) {
                    Piece left[4], right[4];
#pragma unroll
                    for (u32 r = 0; r < 4; ++r) {
                        u32 row = 32 * i + 8 * r + g, other = 32 * j + 8 * r + g;
                        left[r] = load_operand<N>(from + row * s.d, k, s.d, row < s.n, s.t_pieces);
                        right[r] = i == j ? left[r] : load_operand<N>(from + other * s.d, k, s.d, other < s.n, s.t_pieces);
                    }
#pragma unroll
                    for (u32 step = 0; step < 2; ++step)
#pragma unroll
                        for (u32 m = 0; m < 2; ++m) {
                            u32 a[4] = {left[2 * m].w[2 * step], left[2 * m + 1].w[2 * step], left[2 * m].w[2 * step + 1],
                                        left[2 * m + 1].w[2 * step + 1]};
#pragma unroll
                            for (u32 r = 0; r < 4; ++r) {
                                // Above the diagonal.
                                if (i == j && r > 2 * m + 1) continue;
                                u32 e[2] = {right[r].w[2 * step], right[r].w[2 * step + 1]};
                                N::multiply(sum[m][r], a, e);
                            }
                        }
                }
#pragma unroll
                for (u32 m = 0; m < 2; ++m)
#pragma unroll
                    for (u32 r = 0; r < 4; ++r)
#pragma unroll
                        for (u32 e = 0; e < 4; ++e) {
                            u32 row = 32 * i + 16 * m + g + e / 2 * 8, column = 32 * j + 8 * r + 2 * q + e % 2;
                            if (row < s.n && column < row + s.self_interaction)
                                pairs[pairs_before(row, s.self_interaction) + column] = N::narrow(sum[m][r][e]);
                        }
            }
        __syncwarp(FULL);
        copy<N>(to, from, s.d, s.t_pieces && s.r_pieces);
        copy<N>(to + s.d, pairs, count, s.r_pieces);
        for (u32 c = s.d + count + lane; c < s.cols; c += 32) to[c] = N::narrow(0.0f);
        __syncwarp(FULL);
    }
}

// Rows 32 * i.. and columns 32 * j.. of G + G^T as A, G the triangle of pairs' gradients. A lane's
// terms are rows 4 * k + q of T.
template <class N>
__device__ __forceinline__ void both(u32 (&a)[2][N::STEPS][4], const typename N::Number* pairs, const Shape& s, u32 i, u32 j) {
    u32 g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    const u32 halves = N::EACH / 4, bits = 32 / halves;
#pragma unroll
    for (u32 m = 0; m < 2; ++m)
#pragma unroll
        for (u32 step = 0; step < N::STEPS; ++step)
#pragma unroll
            for (u32 e = 0; e < 4; ++e) {
                u32 x = 32 * i + 16 * m + g + e % 2 * 8, word = 0;
#pragma unroll
                for (u32 h = 0; h < halves; ++h) {
                    u32 y = 32 * j + 4 * ((2 * step + e / 2) * halves + h) + q, row = max(x, y), column = min(x, y);
                    float v = 0.0f;
                    if (row < s.n && column < row + s.self_interaction)
                        v = N::widen(pairs[pairs_before(row, s.self_interaction) + column]);
                    word |= N::operand(bits_of(N::narrow(x == y ? 2.0f * v : v))) << (h * bits);
                }
                a[m][step][e] = word;
            }
}

// Terms k.. of column p as a word of B.
__device__ __forceinline__ u32 column_word(const Piece (&x)[8], u32 k, u32 p, u16) {
    u32 shift = p % 2 * 16;
    return (x[k].w[p / 2] >> shift & 0xffffu) | (x[k + 1].w[p / 2] >> shift & 0xffffu) << 16;
}
__device__ __forceinline__ u32 column_word(const Piece (&x)[8], u32 k, u32 p, float) { return x[k].w[p]; }

// dT = (G + G^T) T, and dR's direct part to row 0.
template <class N>
__device__ __forceinline__ void backward(const Shape& s, const typename N::Number* t, const typename N::Number* dout,
                                         typename N::Number* dt) {
    typedef typename N::Number Number;
    DYNAMIC_SHARED(Number, memory);
    const u32 halves = N::EACH / 4;
    u32 warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    Number* direct = memory + warp * s.shared;
    u32 blocks = (s.n + 31) / 32;
    // Of a piece of columns each lane reads one, so that it writes its four neighbours' sums side
    // by side.
    u32 own = g % 2 * 4 + g / 2;
    for (u32 b = blockIdx.x * warps + warp; b < s.samples; b += gridDim.x * warps) {
        const Number* from = t + (u64)b * s.t_stride;
        Number* to = dt + (u64)b * s.dt_stride;
        copy<N>(direct, dout + (u64)b * s.r_stride, s.d + pairs_before(s.n, s.self_interaction), s.r_pieces);
        __syncwarp(FULL);
        u32 a[2][N::STEPS][4];
        for (u32 i = 0; i < blocks; ++i)
            for (u32 first = 0; first < s.d; first += 8 * N::EACH) {
                float sum[2][N::EACH][4] = {};
                for (u32 j = 0; j < blocks; ++j) {
                    if (blocks > 1 || first == 0) both<N>(a, direct + s.d, s, i, j);
                    Piece x[8];
#pragma unroll
                    for (u32 k = 0; k < 8; ++k) {
                        u32 row = 32 * j + 4 * k + q;
                        x[k] = load_operand<N>(from + row * s.d, first + N::EACH * own, s.d, row < s.n, s.t_pieces);
                    }
#pragma unroll
                    for (u32 p = 0; p < N::EACH; ++p)
#pragma unroll
                        for (u32 step = 0; step < N::STEPS; ++step) {
                            u32 k = 2 * step * halves, e[2] = {column_word(x, k, p, Number()), column_word(x, k + halves, p, Number())};
                            N::multiply(sum[0][p], a[0][step], e);
                            N::multiply(sum[1][p], a[1][step], e);
                        }
                }
#pragma unroll
                for (u32 m = 0; m < 2; ++m)
#pragma unroll
                    for (u32 e = 0; e < 4; ++e) {
                        u32 row = 32 * i + 16 * m + g + e / 2 * 8, column = first + N::EACH * (q + e % 2 * 4);
                        float v[N::EACH];
#pragma unroll
                        for (u32 p = 0; p < N::EACH; ++p) {
                            v[p] = sum[m][p][e];
                            if (row == 0 && column + p < s.d) v[p] += N::widen(direct[column + p]);
                        }
                        if (row < s.n) store_piece<N>(to + row * s.d, column, s.d, v, s.dt_pieces);
                    }
            }
        __syncwarp(FULL);
    }
}

KERNEL dot_forward_bf16(Shape s, const u16* t, u16* out) { forward<Bf16>(s, t, out); }
KERNEL dot_forward_f16(Shape s, const u16* t, u16* out) { forward<F16>(s, t, out); }
KERNEL dot_forward_tf32(Shape s, const float* t, float* out) { forward<Tf32>(s, t, out); }
KERNEL dot_backward_bf16(Shape s, const u16* t, const u16* dout, u16* dt) { backward<Bf16>(s, t, dout, dt); }
KERNEL dot_backward_f16(Shape s, const u16* t, const u16* dout, u16* dt) { backward<F16>(s, t, dout, dt); }
KERNEL dot_backward_tf32(Shape s, const float* t, const float* dout, float* dt) { backward<Tf32>(s, t, dout, dt); }
