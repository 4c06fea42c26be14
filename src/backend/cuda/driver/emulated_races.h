// What the emulated device and its watch (emulated_races.cpp) tell each other. The watch is a file of its own, since the kernels are
// compiled with a call before each access to memory, and what is called must not be.

namespace races {

// Where the thread that runs now stands.
struct Here {
    unsigned thread, block, barriers;
    // Threads of a block, and its dynamic shared memory.
    unsigned threads;
    const unsigned char *shared, *shared_end;
    // What no other thread sees: the stacks of the fibers; and the emulation's own variables.
    const unsigned char *stacks, *stacks_end, *own, *own_end;
    // Of the kernels' library: shared memory of a size known at compile time is among them.
    const unsigned char *variables, *variables_end;
    // Whether a kernel's thread runs, and is in no atomic operation.
    bool inside;
};

extern Here here;

// A launch, a block begins. The seed decides the order of blocks and threads; 0 is the plain one.
void begin_launch(const char* kernel, unsigned long long seed);
void begin_block();
// The lanes of `mask` of a warp have met at a __syncwarp, with the last of them.
void met(unsigned warp, unsigned mask);
// An atomic operation on `bytes` at `at`.
void atomic(const void* at, unsigned bytes);
// A number below `n`, the next of this launch's.
unsigned below(unsigned n);
// Another thread's turn: the emulation's.
void give_way();

}  // namespace races
