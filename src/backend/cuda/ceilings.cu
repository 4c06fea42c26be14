// The plainest loops there are, to measure a GPU with. What they compute is checked in tests and
// otherwise of no interest.

#define CHAINS 16

// Each thread: CHAINS running products and sums, `rounds` of each; their sum to out[thread].
KERNEL chains(float* out, u32 rounds, float a, float b) {
    float s[CHAINS];
    for (u32 i = 0; i < CHAINS; ++i) s[i] = b * (float)i;
    for (u32 r = 0; r < rounds; ++r) {
#pragma unroll
        for (u32 i = 0; i < CHAINS; ++i) s[i] = fmaf(a, s[i], b);
    }
    float sum = 0.0f;
    for (u32 i = 0; i < CHAINS; ++i) sum += s[i];
    out[(u64)blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

struct alignas(16) Four {
    u32 w[4];
};

// Numbers of either sign between 0.00003 and 2 that are as random in 16 bits, bf16 or f16, as in
// 32: products of zeros take less power and run faster.
KERNEL fill_random(u32* x, u64 n) {
    FOR_ALL(i, n) {
        u32 v = ((u32)i + 1) * 0x9e3779b1u;
        v = (v ^ (v >> 15)) * 0x85ebca6bu;
        v ^= v >> 13;
        x[i] = (v & 0x87ff87ffu) | 0x38003800u;
    }
}

// Reads n pieces of 16 bytes; the exclusive or of each thread's words to out[thread].
KERNEL read_all(const Four* x, u64 n, u32* out) {
    u32 all = 0;
    FOR_ALL(i, n) {
        Four v = x[i];
        all ^= v.w[0] ^ v.w[1] ^ v.w[2] ^ v.w[3];
    }
    out[(u64)blockIdx.x * blockDim.x + threadIdx.x] = all;
}

// to = from, n pieces of 16 bytes
KERNEL copy_all(const Four* from, Four* to, u64 n) { FOR_ALL(i, n) to[i] = from[i]; }

// A permutation of 0..2^bits that looks like chance: each line can be undone.
__device__ __forceinline__ u32 shuffled(u32 i, u32 bits, u32 seed) {
    u32 mask = bits < 32 ? (1u << bits) - 1 : 0xffffffffu, half = (bits + 1) / 2;
    i = (i * 0x9e3779b1u + seed) & mask;
    i ^= i >> half;
    i = (i * 0x85ebca6bu + seed) & mask;
    i ^= i >> half;
    return i;
}

// Visits the first `visits` of 2^bits rows of `width` pieces of 16 bytes in a random order, no row
// twice, blockDim.x threads a row. The exclusive or of what a thread reads goes to out[thread];
// with `change`, 1 is added to each word instead.
KERNEL visit_rows(Four* x, u32 bits, u32 width, u32 visits, u32 seed, u32 change, u32* out) {
    u32 all = 0;
    FOR_ROWS(i, visits) {
        Four* row = x + (u64)shuffled((u32)i, bits, seed) * width;
        for (u32 c = threadIdx.x; c < width; c += blockDim.x) {
            Four v = row[c];
            if (change) {
                for (u32 k = 0; k < 4; ++k) ++v.w[k];
                row[c] = v;
            } else {
                all ^= v.w[0] ^ v.w[1] ^ v.w[2] ^ v.w[3];
            }
        }
    }
    out[((u64)blockIdx.x * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x] = all;
}
