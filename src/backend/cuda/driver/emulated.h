// What CUDA gives a kernel, for the host's compiler: tests run the very text of the kernels on the CPU. The threads of a block are fibers
// that run one after another and change over wherever they have to wait for each other: at barriers and at the exchanges of a warp.
// Odd blocks run their threads backwards, so that a missing barrier shows. With WATCHED, accesses to memory are looked at for races
// (emulated_races.cpp), and a seed decides the order of blocks and threads, which may then change over at any access.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#ifdef WATCHED
#include "emulated_races.h"
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct Index { unsigned x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

// The emulation's own variables, which are no kernel's memory.
#ifdef WATCHED
#define OWN static __attribute__((section("emulated_own")))
extern "C" __attribute__((visibility("hidden"))) const unsigned char __start_emulated_own[], __stop_emulated_own[], __bss_start[], _end[];
#else
#define OWN static
#endif
OWN Index threadIdx, blockIdx, blockDim, gridDim;
OWN unsigned char* dynamic_shared_memory;
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(dynamic_shared_memory)

namespace emulated {

constexpr unsigned MAX_THREADS = 1024, STACK = 1 << 16;

struct Meeting { unsigned mask, arrived, generation; unsigned long long values[2][32]; };
struct Warp { Meeting meetings[40]; unsigned count; };

struct Fiber {
#if defined(__x86_64__)
    void* stack_pointer;
#else
    ucontext_t context;
#endif
    bool done;
    // Waits while this is that.
    const unsigned* generation;
    unsigned mine;
};

OWN Fiber fibers[MAX_THREADS];
OWN Warp warps[MAX_THREADS / 32];
OWN unsigned char* stacks;
OWN unsigned current, threads, barrier_arrived, barrier_generation;
OWN unsigned order[MAX_THREADS];
OWN bool progress;
OWN const char* kernel_name;
OWN void (*entry)(void**);
OWN void** arguments;
// Decides the order of the next launch.
OWN unsigned long long schedule;

#if defined(__x86_64__)
OWN void* scheduler;
extern "C" __attribute__((visibility("hidden"))) void dlrm_bench_switch(void** save, void* to);
asm(R"(
.text
.hidden dlrm_bench_switch
.globl dlrm_bench_switch
.type dlrm_bench_switch,@function
dlrm_bench_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static void leave() { dlrm_bench_switch(&fibers[current].stack_pointer, scheduler); }
static void enter() { dlrm_bench_switch(&scheduler, fibers[current].stack_pointer); }
#else
OWN ucontext_t scheduler;
static void leave() { swapcontext(&fibers[current].context, &scheduler); }
static void enter() { swapcontext(&scheduler, &fibers[current].context); }
#endif

// The watch is told where a thread stands; without one all this is nothing.
#ifdef WATCHED
static void inside(bool is) {
    races::here.thread = current;
    races::here.barriers = barrier_generation;
    races::here.inside = is;
}
static void met(unsigned mask) { races::met(current / 32, mask); }
static void begin_launch(const unsigned char* memory, unsigned shared) {
    races::Here& here = races::here;
    here.threads = threads;
    here.shared = memory;
    here.shared_end = memory + shared;
    here.stacks = stacks;
    here.stacks_end = stacks + (size_t)MAX_THREADS * STACK;
    here.own = __start_emulated_own;
    here.own_end = __stop_emulated_own;
    here.variables = __bss_start;
    here.variables_end = _end;
    races::begin_launch(kernel_name, schedule);
}
static void begin_block(unsigned number) {
    races::here.block = number;
    races::begin_block();
}
static unsigned pick(unsigned n, unsigned plain) { return schedule ? races::below(n) : plain; }
#else
static void inside(bool) {}
static void met(unsigned) {}
static void begin_launch(const unsigned char*, unsigned) {}
static void begin_block(unsigned) {}
static unsigned pick(unsigned, unsigned plain) { return plain; }
#endif

static void place(unsigned thread) {
    current = thread;
    threadIdx = Index{thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
}

static void run_thread() {
    inside(true);
    entry(arguments);
    inside(false);
    fibers[current].done = true;
    progress = true;
    leave();
    abort();
}

static void make(unsigned thread) {
    unsigned char* top = stacks + (size_t)(thread + 1) * STACK;
    Fiber& f = fibers[thread];
    f.done = false;
    f.generation = nullptr;
#if defined(__x86_64__)
    void** frame = reinterpret_cast<void**>(top) - 8;
    memset(frame, 0, 8 * sizeof(void*));
    frame[6] = reinterpret_cast<void*>(run_thread);
    f.stack_pointer = frame;
#else
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = top - STACK;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, run_thread, 0);
#endif
}

[[noreturn]] static void fail(const char* what) {
    fprintf(stderr, "emulated kernel %s: %s\n", kernel_name, what);
    abort();
}

// Until it changes, the scheduler leaves the thread alone.
static void wait_while(const unsigned& generation, unsigned mine) {
    unsigned self = current;
    inside(false);
    fibers[self].generation = &generation;
    fibers[self].mine = mine;
    leave();
    place(self);
    fibers[self].generation = nullptr;
    progress = true;
    inside(true);
}

// All lanes of `mask` meet; each leaves a value and may then look at the others'.
// With `orders`, they see each other's memory from then on.
static const unsigned long long* meet(unsigned mask, unsigned long long value, bool orders = false) {
    unsigned lane = current % 32;
    if (!(mask >> lane & 1)) fail("a lane outside its own mask");
    Warp& warp = warps[current / 32];
    unsigned k = 0;
    while (k < warp.count && warp.meetings[k].mask != mask) ++k;
    if (k == warp.count) {
        if (k == 40) fail("too many different masks in a warp");
        warp.meetings[k] = Meeting{mask, 0, 0, {}};
        ++warp.count;
    }
    Meeting& m = warp.meetings[k];
    unsigned mine = m.generation;
    m.values[mine % 2][lane] = value;
    if (m.arrived >> lane & 1) fail("a lane came twice");
    m.arrived |= 1u << lane;
    if (m.arrived == mask) {
        if (orders) met(mask);
        m.arrived = 0;
        ++m.generation;
        progress = true;
    } else {
        wait_while(m.generation, mine);
    }
    return m.values[mine % 2];
}

template <class T> unsigned long long to_bits(T v) {
    unsigned long long bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}
template <class T> T of_bits(unsigned long long bits) {
    T v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

template <class... A, size_t... I> void call(void (*f)(A...), void** a, std::index_sequence<I...>) {
    f(*reinterpret_cast<A*>(a[I])...);
}
template <class... A> void call(void (*f)(A...), void** a) { call(f, a, std::make_index_sequence<sizeof...(A)>()); }

static void block(unsigned number) {
    memset(warps, 0, sizeof warps);
    barrier_arrived = 0;
    for (unsigned t = 0; t < threads; ++t) {
        make(t);
        order[t] = number % 2 ? threads - 1 - t : t;
    }
    unsigned left = threads;
    while (left > 0) {
        progress = false;
        for (unsigned i = 0; i < threads; ++i) {
            std::swap(order[i], order[pick(threads - i, 0) + i]);
            unsigned t = order[i];
            Fiber& f = fibers[t];
            if (f.done || (f.generation && *f.generation == f.mine)) continue;
            place(t);
            enter();
            if (f.done) --left;
        }
        if (!progress) fail("threads wait for others that never come");
    }
}

static void launch(const char* name, void (*f)(void**), const unsigned* grid, const unsigned* dims, unsigned shared, void** args) {
    kernel_name = name;
    entry = f;
    arguments = args;
    gridDim = Index{grid[0], grid[1], grid[2]};
    blockDim = Index{dims[0], dims[1], dims[2]};
    threads = dims[0] * dims[1] * dims[2];
    if (threads == 0 || threads > MAX_THREADS || shared > 227 * 1024) fail("no GPU can launch this");
    if (!stacks) stacks = static_cast<unsigned char*>(aligned_alloc(64, (size_t)MAX_THREADS * STACK));
    unsigned char* memory = static_cast<unsigned char*>(aligned_alloc(64, (shared + 64u) / 64u * 64u));
    unsigned blocks = grid[0] * grid[1] * grid[2];
    unsigned* numbers = static_cast<unsigned*>(malloc(blocks * sizeof(unsigned)));
    for (unsigned b = 0; b < blocks; ++b) numbers[b] = b;
    begin_launch(memory, shared);
    for (unsigned b = 0; b < blocks; ++b) {
        std::swap(numbers[b], numbers[pick(blocks - b, 0) + b]);
        unsigned number = numbers[b];
        blockIdx = Index{number % grid[0], number / grid[0] % grid[1], number / grid[0] / grid[1]};
        // NaN, so that reading what nobody wrote shows.
        memset(memory, 0xff, shared);
        dynamic_shared_memory = memory;
        begin_block(number);
        block(blockIdx.x);
    }
    free(numbers);
    free(memory);
}

}  // namespace emulated

static inline void __syncthreads() {
    using namespace emulated;
    unsigned mine = barrier_generation;
    if (++barrier_arrived == threads) {
        barrier_arrived = 0;
        ++barrier_generation;
        progress = true;
        inside(true);
    } else {
        wait_while(barrier_generation, mine);
    }
}
static inline void __syncwarp(unsigned mask) { emulated::meet(mask, 0, true); }

template <class T> T __shfl_xor_sync(unsigned mask, T v, unsigned other) {
    return emulated::of_bits<T>(emulated::meet(mask, emulated::to_bits(v))[emulated::current % 32 ^ other]);
}
template <class T> T __shfl_sync(unsigned mask, T v, unsigned lane) {
    return emulated::of_bits<T>(emulated::meet(mask, emulated::to_bits(v))[lane % 32]);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by) {
    unsigned lane = emulated::current % 32;
    const unsigned long long* all = emulated::meet(mask, emulated::to_bits(v));
    return lane < by ? v : emulated::of_bits<T>(all[lane - by]);
}
static inline unsigned __match_any_sync(unsigned mask, unsigned v) {
    const unsigned long long* all = emulated::meet(mask, v);
    unsigned same = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
        if ((mask >> lane & 1) && all[lane] == v) same |= 1u << lane;
    return same;
}

namespace emulated {
// One step for all other threads.
template <class T, class F> T atomically(T* p, F f) {
#ifdef WATCHED
    races::atomic(p, sizeof *p);
#endif
    inside(false);
    T old = *p;
    *p = f(old);
    inside(true);
    return old;
}
}  // namespace emulated

static inline unsigned atomicAdd(unsigned* p, unsigned v) {
    return emulated::atomically(p, [=](unsigned old) { return old + v; });
}
static inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) {
    return emulated::atomically(p, [=](unsigned long long old) { return v > old ? v : old; });
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline unsigned __float_as_uint(float x) { return emulated::of_bits<unsigned>(emulated::to_bits(x)); }
static inline float __uint_as_float(unsigned x) { return emulated::of_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return (long long)emulated::to_bits(x); }
static inline double __longlong_as_double(long long x) { return emulated::of_bits<double>((unsigned long long)x); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
template <class A, class B> auto min(A a, B b) -> decltype(a + b) { return a < b ? a : b; }
template <class A, class B> auto max(A a, B b) -> decltype(a + b) { return a > b ? a : b; }

// The kernel by name, with its arguments as cuLaunchKernel takes them.
#define EMULATE(name)                                                                                                    \
    extern "C" __attribute__((visibility("default"))) void emulated_##name(const unsigned* grid, const unsigned* dims,   \
                                                                           unsigned shared, void** args) {               \
        emulated::launch(#name, [](void** a) { emulated::call(name, a); }, grid, dims, shared, args);                    \
    }

#ifdef WATCHED
void races::give_way() {
    using namespace emulated;
    unsigned self = current;
    progress = true;
    inside(false);
    leave();
    place(self);
    inside(true);
}
extern "C" __attribute__((visibility("default"))) void emulated_schedule(unsigned long long seed) { emulated::schedule = seed; }
#endif
