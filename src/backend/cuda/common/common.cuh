// What all kernels share: number types, index helpers, fixed-order sums. No header of a toolkit is
// included, so that NVRTC needs none, and the host's compiler can build the same text
// (driver/emulated.h).

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __CUDACC_RTC__
// The block's dynamic shared memory under the name `name`.
#define DYNAMIC_SHARED(T, name)                                            \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[]; \
    T* name = reinterpret_cast<T*>(dynamic_shared_memory)
#endif

#define KERNEL extern "C" __global__ void
#define FULL 0xffffffffu

// Rows of a matrix that this thread works on: blocks of `blockDim.y` rows, one after another.
// Columns go by `threadIdx.x`.
#define FOR_ROWS(r, rows) for (u64 r = (u64)blockIdx.x * blockDim.y + threadIdx.y; r < (rows); r += (u64)gridDim.x * blockDim.y)
#define FOR_COLS(c, cols) for (u32 c = threadIdx.x; c < (cols); c += blockDim.x)

// Elements of a vector that this thread works on.
#define FOR_ALL(i, n) for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (u64)gridDim.x * blockDim.x)

// Sum over a block of up to 1024 threads (`threadIdx.x`), the same order always; the result is
// thread 0's. Every thread must come here.
template <class T>
__device__ __forceinline__ T block_sum(T v) {
    __shared__ T parts[32];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (u32 step = 16; step > 0; step /= 2) v += __shfl_xor_sync(FULL, v, step);
    __syncthreads();
    if (lane == 0) parts[warp] = v;
    __syncthreads();
    if (warp == 0) {
        v = lane < warps ? parts[lane] : T(0);
        for (u32 step = 16; step > 0; step /= 2) v += __shfl_xor_sync(FULL, v, step);
    }
    return v;
}

// The greatest `t` with `first[t] <= position`, for `tables + 1` ascending positions, `position <
// first[tables]`.
__device__ __forceinline__ u32 table_of(const u32* first, u32 tables, u32 position) {
    u32 low = 0, high = tables;
    while (high - low > 1) {
        u32 middle = (low + high) / 2;
        if (first[middle] <= position) low = middle; else high = middle;
    }
    return low;
}
