// Watches the kernels' accesses to memory: two threads that touch the same bytes, one of them writing, not both atomically, with nothing
// between them that brings them in order, are a race. In order are accesses of one thread; of one block with a __syncthreads between
// them; of one warp with __syncwarps between them (the exchanges of a warp promise no order of memory; see the CUDA programming guide,
// "Warp Shuffle Functions" and "Synchronization Functions"). Nothing brings two blocks of a launch in order.
//
// So a race is found whatever the order in which threads happened to run. What is remembered of some bytes is their last write and
// two readers: a race may be missed among many readers of a warp, none is made up.
//
// The calls are those that compilers make with -fsanitize=thread; nothing of that library is linked.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "emulated_races.h"

namespace races {

Here here;

namespace {

struct Access {
    uint32_t block, barriers, clock;
    uint16_t thread;
    // Which of the two bytes; 0 is no access.
    uint8_t bytes;
    bool atomic;
};

// Two bytes.
struct Cell { Access write, reads[2]; };

constexpr uintptr_t PAGE = 4096;

struct Page {
    uint32_t launch;
    Cell cells[PAGE / 2];
};

std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
// Those that were asked for last.
struct Recent { uintptr_t number; Page* page; } recent[64];

const char* kernel;
uint32_t launch, clock_now;
uint64_t state;
bool mixed;
char report_text[2048];
unsigned reported;

// Up to which time lane [warp][a] knows what lane [b] has done.
uint32_t known[32][32][32];

Page& page_of(uintptr_t number) {
    Recent& r = recent[number % 64];
    if (!r.page || r.number != number) {
        std::unique_ptr<Page>& page = pages[number];
        if (!page) page.reset(new Page());
        r = Recent{number, page.get()};
    }
    if (r.page->launch != launch) {
        memset(r.page->cells, 0, sizeof r.page->cells);
        r.page->launch = launch;
    }
    return *r.page;
}

enum Space { PRIVATE, SHARED, GLOBAL };

Space space_of(const unsigned char* at) {
    if (at >= here.stacks && at < here.stacks_end) return PRIVATE;
    if (at >= here.own && at < here.own_end) return PRIVATE;
    if (at >= reinterpret_cast<unsigned char*>(&here) && at < reinterpret_cast<unsigned char*>(&here + 1)) return PRIVATE;
    if (at >= here.shared && at < here.shared_end) return SHARED;
    if (at >= here.variables && at < here.variables_end) return SHARED;
    return GLOBAL;
}

// Whether the access came before all that this thread does now.
bool in_order(const Access& a, Space space) {
    if (a.block != here.block) return space == SHARED;
    if (a.thread == here.thread || a.barriers != here.barriers) return true;
    unsigned warp = here.thread / 32;
    return a.thread / 32 == warp && known[warp][here.thread % 32][a.thread % 32] > a.clock;
}

void tell(const Access& a, bool wrote, const unsigned char* at, Space space, bool writes) {
    if (++reported > 1) return;
    size_t used = strlen(report_text);
    const char* names[] = {"", "shared", "global"};
    bool dynamic = at >= here.shared && at < here.shared_end;
    unsigned long long place = dynamic ? (unsigned long long)(at - here.shared) : (unsigned long long)(uintptr_t)at;
    snprintf(report_text + used, sizeof report_text - used,
             "%skernel %s: thread %u of block %u %s, and thread %u of block %u %s, %s memory at %s%#llx, and nothing brings them in order",
             used ? "; " : "", kernel, here.thread, here.block, writes ? "writes" : "reads", a.thread, a.block, wrote ? "wrote" : "read",
             names[space], dynamic ? "offset " : "", place);
}

void touch(Cell& cell, const Access& now, const unsigned char* at, Space space, bool writes) {
    auto clashes = [&](const Access& a) { return (a.bytes & now.bytes) && !(a.atomic && now.atomic) && !in_order(a, space); };
    if (clashes(cell.write)) tell(cell.write, true, at, space, writes);
    if (writes) {
        for (const Access& read : cell.reads)
            if (clashes(read)) tell(read, false, at, space, writes);
        cell.write = now;
        return;
    }
    // Two different threads stay, if there were two: the first and the last.
    for (Access& read : cell.reads)
        if (!read.bytes || read.thread == now.thread || read.barriers != now.barriers || read.block != now.block) {
            // Another block's reads count only in global memory, where they are never in order with writes.
            if (space == GLOBAL && read.bytes && read.block != now.block && &read == cell.reads) continue;
            uint8_t same = read.thread == now.thread && read.block == now.block && read.barriers == now.barriers && read.clock == now.clock ? read.bytes : 0;
            read = now;
            read.bytes |= same;
            return;
        }
    cell.reads[1] = now;
}

void access(const void* place, size_t size, bool writes, bool atomic) {
    const unsigned char* at = static_cast<const unsigned char*>(place);
    Space space = space_of(at);
    if (space == PRIVATE) return;
    if (mixed && !atomic && below(32) == 0) give_way();
    Access now{here.block, here.barriers, clock_now, (uint16_t)here.thread, 0, atomic};
    for (uintptr_t first = (uintptr_t)at, end = first + size; first < end;) {
        uintptr_t cell = first / 2, next = (cell + 1) * 2;
        now.bytes = (uint8_t)((first % 2 ? 0 : 1) | (end >= next ? 2 : 0));
        touch(page_of(first / PAGE).cells[cell % (PAGE / 2)], now, reinterpret_cast<const unsigned char*>(first), space, writes);
        first = next;
    }
}

}  // namespace

unsigned below(unsigned n) {
    // SplitMix64.
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((z ^ z >> 31) % n);
}

void begin_launch(const char* name, unsigned long long seed) {
    kernel = name;
    ++launch;
    state = seed;
    mixed = seed != 0;
    // Memory of launches long gone.
    if (pages.size() > 2048) {
        pages.clear();
        memset(recent, 0, sizeof recent);
    }
}

void begin_block() { memset(known, 0, sizeof known); }

void met(unsigned warp, unsigned mask) {
    ++clock_now;
    uint32_t all[32];
    for (unsigned x = 0; x < 32; ++x) {
        all[x] = 0;
        for (unsigned b = 0; b < 32; ++b)
            if ((mask >> b & 1) && known[warp][b][x] > all[x]) all[x] = known[warp][b][x];
        if (mask >> x & 1) all[x] = clock_now;
    }
    for (unsigned b = 0; b < 32; ++b)
        if (mask >> b & 1) memcpy(known[warp][b], all, sizeof all);
}

void atomic(const void* at, unsigned bytes) {
    if (here.inside) access(at, bytes, true, true);
}

}  // namespace races

// What was found since it was last asked for.
extern "C" __attribute__((visibility("default"))) const char* emulated_report() {
    static char told[sizeof races::report_text];
    memcpy(told, races::report_text, sizeof told);
    races::report_text[0] = 0;
    races::reported = 0;
    return told;
}

#define CALL(name, ...) extern "C" __attribute__((visibility("hidden"))) void __tsan_##name(__VA_ARGS__)
static inline void plain(const void* at, size_t bytes, bool writes) {
    if (races::here.inside) races::access(at, bytes, writes, false);
}
#define SIZE(n)                                          \
    CALL(read##n, void* at) { plain(at, n, false); }     \
    CALL(write##n, void* at) { plain(at, n, true); }     \
    CALL(unaligned_read##n, void* at) { plain(at, n, false); } \
    CALL(unaligned_write##n, void* at) { plain(at, n, true); }
SIZE(1) SIZE(2) SIZE(4) SIZE(8) SIZE(16)
CALL(read_range, void* at, size_t bytes) { plain(at, bytes, false); }
CALL(write_range, void* at, size_t bytes) { plain(at, bytes, true); }
CALL(init, void) {}
CALL(func_entry, void*) {}
CALL(func_exit, void) {}
extern "C" __attribute__((visibility("hidden"))) void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
    plain(from, bytes, false);
    plain(to, bytes, true);
    return memmove(to, from, bytes);
}
extern "C" __attribute__((visibility("hidden"))) void* __tsan_memmove(void* to, const void* from, size_t bytes) {
    return __tsan_memcpy(to, from, bytes);
}
extern "C" __attribute__((visibility("hidden"))) void* __tsan_memset(void* to, int value, size_t bytes) {
    plain(to, bytes, true);
    return memset(to, value, bytes);
}
