// Numbers in 16 bits, as src/embedding/sixteen.rs has them, bit by bit.

enum RowKind { FP32 = 0, BF16 = 1, FP16 = 2, BF16_SPLIT = 3 };

__device__ __forceinline__ float from_bf16(u16 x) { return __uint_as_float((u32)x << 16); }

// The nearest, ties to even.
__device__ __forceinline__ u16 to_bf16(float x) {
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)(bits >> 16 | 0x40u);
    return (u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ __forceinline__ u16 round_bf16(float x, u32 noise) { return (u16)((__float_as_uint(x) + noise) >> 16); }

__device__ __forceinline__ float from_f16(u16 x) {
    u32 magnitude = (u32)(x & 0x7fffu) << 13;
    u32 bits = (x & 0x7c00u) == 0x7c00u ? (magnitude | 0x7f800000u)
                                        : __float_as_uint(__uint_as_float(magnitude) * __uint_as_float(0x77800000u));
    return __uint_as_float(bits | (u32)(x & 0x8000u) << 16);
}

// The nearest, ties to even; beyond 65,520 infinity.
__device__ __forceinline__ u16 to_f16(float x) {
    u32 bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (u16)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return (u16)(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) return (u16)(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13));
    // Subnormal: 0.5 has steps of 2^-24, so the sum is rounded to the right bit, ties to even.
    u32 units = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u;
    return (u16)(sign | units);
}

__device__ __forceinline__ u16 cut_f16(float x) {
    u32 bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (u16)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude == 0x7f800000u) return (u16)(sign | 0x7c00u);
    if (magnitude >= 0x47800000u) return (u16)(sign | 0x7bffu);
    if (magnitude >= 0x38800000u) return (u16)(sign | ((magnitude - 0x38000000u) >> 13));
    return (u16)(sign | (u32)(__uint_as_float(magnitude) * 16777216.0f));
}

__device__ __forceinline__ u16 round_f16(float x, u32 noise) {
    noise &= 0x1fffu;
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) < 0x38800000u) {
        // 2^-37 for each unit of noise.
        float step = (float)(int)noise * __uint_as_float(0x2d000000u);
        return cut_f16(x + (bits >> 31 ? -step : step));
    }
    return cut_f16(__uint_as_float(bits + noise));
}

__device__ __forceinline__ float join(u16 high, u16 low) {
    return __uint_as_float(((u32)high << 16) + (u32)(int)(short)low);
}

// A table of one kind; `low` only of split halves.
struct Rows {
    u64 values, low, weights, state[2], weight_state[2];
};

// Element `at` as lookups see it.
__device__ __forceinline__ float seen(u32 kind, u64 values, u64 at) {
    if (kind == FP32) return reinterpret_cast<const float*>(values)[at];
    u16 x = reinterpret_cast<const u16*>(values)[at];
    return kind == FP16 ? from_f16(x) : from_bf16(x);
}

// Element `at` with all its bits.
__device__ __forceinline__ float whole(u32 kind, const Rows& t, u64 at) {
    if (kind != BF16_SPLIT) return seen(kind, t.values, at);
    return join(reinterpret_cast<const u16*>(t.values)[at], reinterpret_cast<const u16*>(t.low)[at]);
}

// Sets element `at`; 16-bit numbers are rounded by `noise`.
__device__ __forceinline__ void keep(u32 kind, const Rows& t, u64 at, float x, u32 noise) {
    if (kind == FP32) {
        reinterpret_cast<float*>(t.values)[at] = x;
    } else if (kind == BF16_SPLIT) {
        u32 bits = __float_as_uint(x);
        reinterpret_cast<u16*>(t.values)[at] = (u16)((bits + 0x8000u) >> 16);
        reinterpret_cast<u16*>(t.low)[at] = (u16)bits;
    } else {
        reinterpret_cast<u16*>(t.values)[at] = kind == FP16 ? round_f16(x, noise) : round_bf16(x, noise);
    }
}

// A number as a kind keeps it, the nearest, and in f32 again.
__device__ __forceinline__ float nearest(u32 kind, float x) {
    return kind == FP32 ? x : kind == FP16 ? from_f16(to_f16(x)) : from_bf16(to_bf16(x));
}

// Sets element `at` of numbers of a kind that are kept in one piece (FP32, BF16, FP16) to the
// nearest.
__device__ __forceinline__ void set(u32 kind, u64 values, u64 at, float x) {
    if (kind == FP32) {
        reinterpret_cast<float*>(values)[at] = x;
    } else {
        reinterpret_cast<u16*>(values)[at] = kind == FP16 ? to_f16(x) : to_bf16(x);
    }
}
