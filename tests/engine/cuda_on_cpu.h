// Enough of CUDA to run the kernels of minivit/engine/kernels.py on a processor.
//
// The 32 threads of a warp are coroutines. Each runs until it exchanges a register with another (or ends); then the next
// one runs, in an order that the caller chooses, for on a GPU there is no order either. A warp whose threads do not all
// reach the same exchange is an error, as it is on a GPU. There are no barriers and no shared memory: a kernel that uses
// them does not compile here.
#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__ static

struct Dim { unsigned x; };
static Dim blockIdx, blockDim, threadIdx;

struct Lane {
    ucontext_t start;
    jmp_buf resume;  // a jump between coroutines costs a few nanoseconds, swapcontext two system calls
    char stack[32768];
    char slots[2][8];  // of the last exchange and of the one before, which a slower thread may not have read yet
    unsigned exchanges;
    bool started, done;
};
static Lane lanes[32];
static jmp_buf scheduler;
static void (*kernel)(void**);
static void** arguments;
static unsigned wrong;  // exchanges that a GPU would not do

template <class T> T __shfl_xor_sync(unsigned mask, T value, int step) {
    unsigned me = threadIdx.x % 32;
    if (mask != 0xffffffff) wrong++;
    unsigned slot = lanes[me].exchanges++ % 2;
    memcpy(lanes[me].slots[slot], &value, sizeof value);
    if (!_setjmp(lanes[me].resume)) _longjmp(scheduler, 1);
    memcpy(&value, lanes[me ^ step].slots[slot], sizeof value);
    return value;
}

static void run_lane(unsigned me) {
    kernel(arguments);
    lanes[me].done = true;
    _longjmp(scheduler, 1);
}

// Run one thread until it exchanges or ends.
__attribute__((noinline)) static void turn(Lane& lane) {
    if (_setjmp(scheduler)) return;
    if (lane.started) _longjmp(lane.resume, 1);
    lane.started = true;
    setcontext(&lane.start);
}

// 0: from the first to the last; 1: from the last to the first; 2: from the middle, in steps of 11
static unsigned in_order(unsigned i, unsigned n, int order) {
    return order == 0 ? i : order == 1 ? n - 1 - i : (n / 2 + 11 * i) % n;
}

static void run_warp(unsigned first, int order) {
    for (unsigned i = 0; i < 32; i++) {
        Lane& lane = lanes[i];
        lane.exchanges = lane.started = lane.done = 0;
        getcontext(&lane.start);
        lane.start.uc_stack.ss_sp = lane.stack;
        lane.start.uc_stack.ss_size = sizeof lane.stack;
        lane.start.uc_link = nullptr;
        makecontext(&lane.start, (void (*)())run_lane, 1, i);
    }
    for (bool running = true; running;) {
        running = false;
        for (unsigned i = 0; i < 32; i++) {
            unsigned me = in_order(i, 32, order);
            if (lanes[me].done) continue;
            threadIdx.x = first + me;
            turn(lanes[me]);
            running = running || !lanes[me].done;
        }
        for (Lane& lane : lanes)
            if (lane.done != lanes[0].done || lane.exchanges != lanes[0].exchanges) {
                wrong++;
                return;
            }
    }
}

static unsigned run(unsigned grid, unsigned block, int order, void (*function)(void**), void** values) {
    wrong = block % 32 != 0;
    kernel = function;
    arguments = values;
    blockDim.x = block;
    for (unsigned i = 0; i < grid; i++) {
        blockIdx.x = order == 1 ? grid - 1 - i : i;
        for (unsigned first = 0; first < block; first += 32) run_warp(first, order);
    }
    return wrong;
}
