// Philox4x32-10 as in src/random/philox.rs: the four words at `position` of the stream whose upper
// counter words are `high`.

struct Words { u32 w[4]; };

__device__ __forceinline__ Words philox(u32 k0, u32 k1, u64 position, u32 high0, u32 high1) {
    u32 c0 = (u32)position, c1 = (u32)(position >> 32), c2 = high0, c3 = high1;
    for (int round = 0; round < 10; ++round) {
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (u32)p1;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}
