// Products of small matrices by the tensor cores of a warp, and the numbers that they take: D [16,
// 8] += A [16, k] B [k, 8], sums in f32. Lane `l` with g = l / 4, t = l % 4 holds of D: (g, 2t),
// (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1); of A and B words whose rows and columns depend on the
// numbers (PTX ISA, "Matrix Fragments for mma.m16n8k16", "... m16n8k8"):
//   16 bit, k = 16, two numbers a word: A (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t +
//   8..); B (2t.., g), (2t + 8.., g) TF32, k = 8, one number a word:     A (g, t), (g + 8, t), (g,
//   t + 4), (g + 8, t + 4);             B (t, g), (t + 4, g)
// All lanes of a warp come here together. On the host driver/emulated_mma.h does the same.

#ifdef __CUDACC_RTC__
#define MMA(shape)                                                                                              \
    asm volatile("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"   \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
__device__ __forceinline__ void mma_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}
__device__ __forceinline__ void mma_f16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    MMA("m16n8k16.row.col.f32.f16.f16.f32");
}
__device__ __forceinline__ void mma_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}
// To 10 bits behind the point, ties away from zero.
__device__ __forceinline__ u32 to_tf32(float x) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
#endif

// The kinds of numbers, alike: EACH of them are 16 bytes, and STEPS products have 32 terms.
// `operand` is what a product is given for the word.

struct Bf16 {
    typedef u16 Number;
    enum { EACH = 8, STEPS = 2 };
    static __device__ __forceinline__ float widen(u16 x) { return from_bf16(x); }
    static __device__ __forceinline__ u16 narrow(float x) { return to_bf16(x); }
    static __device__ __forceinline__ u32 operand(u32 word) { return word; }
    static __device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma_bf16(d, a, b); }
};

struct F16 {
    typedef u16 Number;
    enum { EACH = 8, STEPS = 2 };
    static __device__ __forceinline__ float widen(u16 x) { return from_f16(x); }
    static __device__ __forceinline__ u16 narrow(float x) { return to_f16(x); }
    static __device__ __forceinline__ u32 operand(u32 word) { return word; }
    static __device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma_f16(d, a, b); }
};

struct Tf32 {
    typedef float Number;
    enum { EACH = 4, STEPS = 4 };
    static __device__ __forceinline__ float widen(float x) { return x; }
    static __device__ __forceinline__ float narrow(float x) { return x; }
    static __device__ __forceinline__ u32 operand(u32 word) { return to_tf32(__uint_as_float(word)); }
    static __device__ __forceinline__ void multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { mma_tf32(d, a, b); }
};
