// What only Hopper (compute capability 9.0, sm_90a) has, one instruction per function: barriers that count bytes, copies of
// whole tiles by tensor map, and what a warpgroup's product needs around it.
#pragma once

#include "mma.cuh"

// A tensor as the copy engine sees it. The driver fills it in (src/backend/cuda/tensor_map.rs).
struct alignas(64) TensorMap {
    uint64_t words[16];
};

// --- barriers --------------------------------------------------------------------------------------------

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes barriers that this thread initialised visible to copies.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives, and extends the phase until this many more bytes have been copied.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Waits for the phase of that parity to end.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{\n.reg .pred ended;\nAGAIN:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
                 "@!ended bra AGAIN;\n}" ::"r"(barrier), "r"(parity)
                 : "memory");
}

// Waits for that many threads at one of the block's sixteen barriers; __syncthreads uses number 0.
template <int Number, int Threads>
__device__ __forceinline__ void barrier_threads() {
    asm volatile("bar.sync %0, %1;" ::"n"(Number), "n"(Threads) : "memory");
}

// --- copies by tensor map --------------------------------------------------------------------------------

// The box at column c0 of row c1 to shared memory; `barrier` counts its bytes. Whatever lies outside the tensor becomes
// zeros, which count too.
__device__ __forceinline__ void copy_box(uint32_t to, const TensorMap* map, int c0, int c1, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(map), "r"(c0), "r"(c1), "r"(barrier)
                 : "memory");
}

// The same for the first `rows` rows of a tensor whose map does not know how many it has. The map has the row dimension three
// times, all with the same pitch except the last, whose pitch is negative: row 2³⁰ - rows + r of the first, `rows` of the
// second and 2³⁰ of the third are together row r, and the first's bound, 2³⁰, is the row `rows`. Addresses wrap at 2⁶⁴.
//
// Or, if `plain`, by a map of two dimensions, with rows of its own number. Predicates tell the two apart: an `if` around two
// statements spilled a register of the threads that expand codes (ring_codes.cuh).
__device__ __forceinline__ void copy_box_of(
    uint32_t to, const TensorMap* map, int c0, int row, int rows, bool plain, uint32_t barrier) {
    constexpr int kMost = 1 << 30;
    asm volatile("{\n.reg .pred plain;\nsetp.ne.b32 plain, %7, 0;\n"
                 "@plain cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%6];\n"
                 "@!plain cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];\n}" ::"r"(to), "l"(map), "r"(c0),
                 "r"(plain ? row : kMost - rows + row), "r"(rows), "r"(kMost), "r"(barrier), "r"(int(plain))
                 : "memory");
}

// Makes this thread's writes to shared memory visible to products and copies that are ordered after it.
__device__ __forceinline__ void fence_shared_writes() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Fetches the box only into the cache: it will be copied soon.
__device__ __forceinline__ void prefetch_box(const TensorMap* map, int c0, int c1) {
    asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(map), "r"(c0), "r"(c1)
                 : "memory");
}

// --- neighbours ------------------------------------------------------------------------------------------

// A launch may begin before the previous one has ended. Waits until it has, and its writes are visible.
__device__ __forceinline__ void wait_for_previous() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

// The next launch may begin once every block has called this or ended.
__device__ __forceinline__ void let_next_begin() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// --- warpgroups ------------------------------------------------------------------------------------------

// Releases registers, or takes some that others released: a warpgroup's threads then have `Registers` each.
template <int Registers>
__device__ __forceinline__ void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

template <int Registers>
__device__ __forceinline__ void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

// True in one lane of a warp; all its lanes must be here.
__device__ __forceinline__ bool elected() {
    uint32_t one;
    asm volatile("{\n.reg .pred chosen;\nelect.sync _|chosen, 0xffffffff;\nselp.u32 %0, 1, 0, chosen;\n}" : "=r"(one));
    return one != 0;
}

// Before the first product, and after anything else has touched its registers.
__device__ __forceinline__ void products_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most `Pending` of the warpgroup's newest groups of products are unfinished.
template <int Pending>
__device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// A tile in shared memory as a product reads it, in rows of `Span` bytes (64 or 128) whose 16-byte chunks the copy engine
// swizzles. Bytes from one group of eight rows to the next (`eight`), and, if a row has only some of the columns, from one
// panel of columns to the next.
template <int Span>
__device__ __forceinline__ uint64_t tile_descriptor(uint32_t start, uint32_t panel, uint32_t eight) {
    constexpr uint64_t kMode = Span == 128 ? 1 : 2;
    static_assert(Span == 128 || Span == 64, "the two swizzles that are used");
    return uint64_t((start & 0x3ffff) >> 4) | uint64_t(panel >> 4) << 16 | uint64_t(eight >> 4) << 32 | kMode << 62;
}
