// Elementary functions with the bits of src/exact.rs, which says how they work and how exact they
// are.

__device__ __forceinline__ u64 bits_of(double x) { return (u64)__double_as_longlong(x); }
__device__ __forceinline__ double of_bits(u64 x) { return __longlong_as_double((long long)x); }

#define ROUND 6755399441055744.0
#define LN_2_HIGH 0x1.62e42fee00000p-1
#define LN_2_LOW 0x1.a39ef35793c76p-33

__device__ __forceinline__ double exact_exp(double x) {
    x = x < -700.0 ? -700.0 : x > 700.0 ? 700.0 : x;
    double shifted = x * 0x1.71547652b82fep+0 + ROUND;
    double k = shifted - ROUND;
    double r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    double p = 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * of_bits((bits_of(shifted) + 1023) << 52);
}

__device__ __forceinline__ double exact_ln(double x) {
    u64 bits = bits_of(x);
    double mantissa = of_bits((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
    bool above = mantissa > 0x1.6a09e667f3bcdp+0;
    double m = above ? 0.5 * mantissa : mantissa;
    double exponent = of_bits(bits >> 52 | 0x4330000000000000ull) - 4503599627370496.0;
    double k = exponent - (above ? 1022.0 : 1023.0);
    double s = (m - 1.0) / (m + 1.0);
    double z = s * s;
    double p = 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    p = p * z + 1.0;
    return k * LN_2_HIGH + (2.0 * s * p + k * LN_2_LOW);
}

__device__ __forceinline__ double exact_floor(double x) {
    double nearest = (x + ROUND) - ROUND;
    return nearest - (nearest > x ? 1.0 : 0.0);
}

__device__ __forceinline__ u32 exact_u32(double x) { return (u32)bits_of(x + ROUND); }

// A uniform number in (0, 1).
__device__ __forceinline__ double open_unit(u32 high, u32 low) {
    u64 bits = ((u64)high << 32 | low) >> 12;
    return of_bits(bits | 0x3ff0000000000000ull) - 0x1.fffffffffffffp-1;
}
