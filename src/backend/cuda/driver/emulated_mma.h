// mma.sync for the host: every lane leaves its fragments and takes its four elements of D from everybody's, by the layouts of the
// PTX ISA. Products are exact, their sum and the old D are added in f64 and rounded once.

namespace emulated {

static float of_bf16(unsigned x) { return of_bits<float>((unsigned long long)(x & 0xffffu) << 16); }

static float of_f16(unsigned x) {
    int exponent = x >> 10 & 31, sign = x >> 15 & 1;
    float fraction = (float)(x & 0x3ffu), magnitude;
    if (exponent == 31) magnitude = fraction != 0.0f ? NAN : INFINITY;
    else magnitude = exponent == 0 ? ldexpf(fraction, -24) : ldexpf(fraction + 1024.0f, exponent - 25);
    return sign ? -magnitude : magnitude;
}

// What the tensor cores see of a TF32 operand: the lowest 13 bits are not looked at.
static float of_tf32(unsigned x) { return of_bits<float>(x & ~0x1fffu); }

// A fragments' words are those of rows g and g + 8 in turn, in blocks of columns; B's the same blocks of rows. `halves` numbers are
// in a word, 4 * halves columns in a block.
static void mma(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], unsigned halves, float (*number)(unsigned)) {
    unsigned left[4][32], right[2][32];
    auto exchange = [](unsigned low, unsigned high, unsigned (&lows)[32], unsigned (&highs)[32]) {
        const unsigned long long* all = meet(0xffffffffu, (unsigned long long)high << 32 | low);
        for (unsigned l = 0; l < 32; ++l) {
            lows[l] = (unsigned)all[l];
            highs[l] = (unsigned)(all[l] >> 32);
        }
    };
    exchange(a[0], a[1], left[0], left[1]);
    exchange(a[2], a[3], left[2], left[3]);
    exchange(b[0], b[1], right[0], right[1]);
    unsigned g = current % 32 / 4, t = current % 4;
    for (unsigned e = 0; e < 4; ++e) {
        unsigned row = g + e / 2 * 8, column = 2 * t + e % 2;
        double sum = 0.0;
        for (unsigned k = 0; k < 8 * halves; ++k) {
            unsigned block = k / (4 * halves), lane = k % (4 * halves) / halves, shift = k % halves * 16;
            unsigned x = left[2 * block + row / 8][row % 8 * 4 + lane] >> shift, y = right[block][column * 4 + lane] >> shift;
            sum += (double)number(x) * (double)number(y);
        }
        d[e] = (float)((double)d[e] + sum);
    }
}

}  // namespace emulated

static inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { emulated::mma(d, a, b, 2, emulated::of_bf16); }
static inline void mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { emulated::mma(d, a, b, 2, emulated::of_f16); }
static inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { emulated::mma(d, a, b, 1, emulated::of_tf32); }
static inline unsigned to_tf32(float x) {
    unsigned bits = emulated::of_bits<unsigned>(emulated::to_bits(x));
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}
