// Radix sort, eight bits a pass, stable and without an order that could vary: tiles count their
// digits, the counts of all tiles are summed, tiles put their keys in place. How many keys there
// are stands in memory: launches are for the most there can be, and tiles behind the last key count
// nothing.

// Items of a thread of radix_count and radix_scatter, which have 256 of them.
#define ITEMS 16
#define TILE (256 * ITEMS)

// Sum of `v` over the threads of the block before this one. Every thread must come here.
__device__ __forceinline__ u32 sum_before(u32 v) {
    __shared__ u32 sums[32];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    u32 upto = v;
    for (u32 step = 1; step < 32; step *= 2) {
        u32 other = __shfl_up_sync(FULL, upto, step);
        if (lane >= step) upto += other;
    }
    __syncthreads();
    if (lane == 31) sums[warp] = upto;
    __syncthreads();
    if (warp == 0) {
        u32 sum = lane < warps ? sums[lane] : 0u;
        for (u32 step = 1; step < 32; step *= 2) {
            u32 other = __shfl_up_sync(FULL, sum, step);
            if (lane >= step) sum += other;
        }
        sums[lane] = sum;
    }
    __syncthreads();
    return upto - v + (warp > 0 ? sums[warp - 1] : 0u);
}

// counts[digit, tile] = keys of the tile that have the digit
KERNEL radix_count(const u32* keys, const u32* count, u32 shift, u32* counts) {
    __shared__ u32 own[256];
    u32 tile = blockIdx.x, thread = threadIdx.x, n = *count;
    own[thread] = 0;
    __syncthreads();
    for (u32 k = 0; k < ITEMS; ++k) {
        u64 i = (u64)tile * TILE + k * 256 + thread;
        if (i < n) atomicAdd(own + (keys[i] >> shift & 255u), 1u);
    }
    __syncthreads();
    counts[(u64)thread * gridDim.x + tile] = own[thread];
}

// counts = for each element the sum of those before it; one block, which goes from chunk to chunk
// with four neighbours a thread
KERNEL radix_scan(u32* counts, u32 n) {
    __shared__ u32 total;
    u32 done = 0;
    for (u32 first = 0; first < n; first += 4 * blockDim.x) {
        u32 at = first + 4 * threadIdx.x, own[4], sum = 0;
        for (u32 k = 0; k < 4; ++k) {
            own[k] = at + k < n ? counts[at + k] : 0u;
            sum += own[k];
        }
        u32 before = done + sum_before(sum);
        if (threadIdx.x == blockDim.x - 1) total = before + sum;
        for (u32 k = 0; k < 4; ++k) {
            if (at + k < n) counts[at + k] = before;
            before += own[k];
        }
        __syncthreads();
        done = total;
    }
}

// Keys, and values where there are any, to their places by one digit. A warp takes 32 * ITEMS keys
// in their order; equal digits of 32 neighbours are told apart by their lanes.
KERNEL radix_scatter(const u32* keys, const u32* values, const u32* count, u32 shift, const u32* counts, u32* to_keys, u32* to_values) {
    __shared__ u32 places[8][257];
    u32 tile = blockIdx.x, thread = threadIdx.x, lane = thread % 32, warp = thread / 32, n = *count;
    for (u32 w = 0; w < 8; ++w) places[w][thread] = 0;
    __syncthreads();
    u64 first = (u64)tile * TILE + warp * (32 * ITEMS) + lane;
    u32 rank[ITEMS];
    for (u32 k = 0; k < ITEMS; ++k) {
        u64 i = first + k * 32;
        u32 digit = i < n ? keys[i] >> shift & 255u : 256u;
        u32 same = __match_any_sync(FULL, digit);
        u32 before = digit < 256u ? places[warp][digit] : 0u;
        rank[k] = before + __popc(same & ((1u << lane) - 1u));
        __syncwarp(FULL);
        if (digit < 256u && (same >> lane) == 1u) places[warp][digit] = rank[k] + 1u;
        __syncwarp(FULL);
    }
    __syncthreads();
    u32 place = counts[(u64)thread * gridDim.x + tile];
    for (u32 w = 0; w < 8; ++w) {
        u32 count = places[w][thread];
        places[w][thread] = place;
        place += count;
    }
    __syncthreads();
    for (u32 k = 0; k < ITEMS; ++k) {
        u64 i = first + k * 32;
        if (i < n) {
            u32 key = keys[i], at = places[warp][key >> shift & 255u] + rank[k];
            to_keys[at] = key;
            if (values) to_values[at] = values[i];
        }
    }
}
