// Kernels with a fault each, and beside it the kernel as it should be, for the test of the watch.

// out[block] = sum of the block's elements, by a tree in shared memory.
__device__ __forceinline__ void tree(const u32* in, u32* out, bool waits) {
    __shared__ u32 parts[64];
    u32 thread = threadIdx.x;
    parts[thread] = in[blockIdx.x * 64 + thread];
    for (u32 step = 32; step > 0; step /= 2) {
        if (waits || step > 16) __syncthreads();
        if (thread < step) parts[thread] += parts[thread + step];
    }
    if (thread == 0) out[blockIdx.x] = parts[0];
}
KERNEL tree_sum(const u32* in, u32* out) { tree(in, out, true); }
// The fault of code from before Volta: a warp is taken to run in step.
KERNEL tree_sum_without_barriers(const u32* in, u32* out) { tree(in, out, false); }

// out = in, backwards in each block.
__device__ __forceinline__ void turn(const u32* in, u32* out, bool waits) {
    DYNAMIC_SHARED(u32, own);
    u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    own[threadIdx.x] = in[at];
    if (waits) __syncthreads();
    out[at] = own[blockDim.x - 1 - threadIdx.x];
}
KERNEL turned(const u32* in, u32* out) { turn(in, out, true); }
KERNEL turned_without_a_barrier(const u32* in, u32* out) { turn(in, out, false); }

// A shared place that is used again: read before it is written anew?
__device__ __forceinline__ void last_of(const u32* in, u32* out, bool waits) {
    __shared__ u32 last;
    for (u32 k = 0; k < 3; ++k) {
        if (threadIdx.x == 63) last = in[k * 64 + 63];
        __syncthreads();
        out[k * 64 + threadIdx.x] = last;
        if (waits) __syncthreads();
    }
}
KERNEL lasts(const u32* in, u32* out) { last_of(in, out, true); }
KERNEL lasts_overtaken(const u32* in, u32* out) { last_of(in, out, false); }

// Neighbours of a warp through shared memory.
__device__ __forceinline__ void pass_on(const u32* in, u32* out, u32 how) {
    __shared__ u32 own[64];
    u32 thread = threadIdx.x, at = blockIdx.x * 64 + thread;
    own[thread] = in[at];
    if (how == 0) __syncwarp(FULL);
    // An exchange is no promise about memory.
    if (how == 1) __shfl_xor_sync(FULL, 0u, 1);
    // Half a warp waits for itself only.
    if (how == 2) __syncwarp(thread % 32 < 16 ? 0xffffu : 0xffff0000u);
    out[at] = own[thread ^ (how == 2 ? 16 : 1)];
}
KERNEL neighbours(const u32* in, u32* out) { pass_on(in, out, 0); }
KERNEL neighbours_by_an_exchange(const u32* in, u32* out) { pass_on(in, out, 1); }
KERNEL neighbours_of_another_half(const u32* in, u32* out) { pass_on(in, out, 2); }

// Blocks that add up in one place.
KERNEL added(const u32* in, u32* out) { atomicAdd(out, in[blockIdx.x * 64 + threadIdx.x]); }
KERNEL added_by_blocks_at_once(const u32* in, u32* out) {
    if (threadIdx.x == 0) out[0] += in[blockIdx.x * 64];
}
KERNEL written_by_all_blocks(const u32* in, u32* out) { out[threadIdx.x] = in[blockIdx.x]; }
// Atomic for some, plain for others.
KERNEL counted_and_read(const u32* in, u32* out) {
    u32 old = atomicAdd(out, in[threadIdx.x] & 1u);
    out[1 + threadIdx.x] = threadIdx.x == 5 ? out[0] : old & 0u;
}

// No race, but a sum in f32 in the order in which threads arrive: another at every run.
KERNEL sum_as_they_come(const float* in, float* out) {
    __shared__ float parts[64];
    __shared__ u32 places;
    if (threadIdx.x == 0) places = 0;
    __syncthreads();
    parts[atomicAdd(&places, 1u)] = in[threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
        float sum = 0.0f;
        for (u32 k = 0; k < 64; ++k) sum += parts[k];
        out[blockIdx.x] = sum;
    }
}

// Neighbours that write the two halves of a word, and bytes: no race.
KERNEL halves(const u32* in, u32* out) {
    u32 at = blockIdx.x * 64 + threadIdx.x;
    reinterpret_cast<unsigned char*>(out)[at] = (unsigned char)in[at];
}
