// `wgmma.mma_async`: a warpgroup's product of tiles in shared memory, for each width of sums that a kernel uses.
//
// Sums (64, N) += a (64 × 16) · b (16 × N), both by descriptor. Lane 4g + t of warp w holds sums d: element j is at row 16w +
// g + 8 · (j / 2 % 2), column 8 · (j / 4) + 2t + j % 2.
#pragma once

#include "common.cuh"

#if defined(BITFIT_BF16)
#define WGMMA_TYPES "f32.bf16.bf16"
#else
#define WGMMA_TYPES "f32.f16.f16"
#endif

// The registers of the sums: their names in the assembly text, and its operands.
#define WGMMA_NAMES_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define WGMMA_NAMES_16 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_NAMES_32 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define WGMMA_NAMES_48 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_NAMES_64 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define WGMMA_NAMES_80 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define WGMMA_NAMES_96 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define WGMMA_NAMES_112 "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define WGMMA_FOUR(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_SIXTEEN(d, i) WGMMA_FOUR(d, i), WGMMA_FOUR(d, i + 4), WGMMA_FOUR(d, i + 8), WGMMA_FOUR(d, i + 12)

// `fresh` sums are not read: they become the product. b is stored column by column, or transposed (`TransposedB`), row by
// row. The operands after the sums are numbered on from them.
#define WGMMA(width, sums, names, a, b, scale, transposed, ...)                                               \
    template <bool TransposedB>                                                                               \
    __device__ __forceinline__ void wgmma(float (&d)[sums], uint64_t left, uint64_t right, bool fresh) {      \
        asm volatile("{\n.reg .pred add;\nsetp.eq.b32 add, " scale ", 0;\n"                                   \
                     "wgmma.mma_async.sync.aligned.m64n" #width "k16." WGMMA_TYPES " {" names "}, " a ", " b  \
                     ", add, 1, 1, 0, " transposed ";\n}"                                                     \
                     : __VA_ARGS__                                                                            \
                     : "l"(left), "l"(right), "r"(int(fresh)), "n"(int(TransposedB)));                        \
    }

WGMMA(96, 48, WGMMA_NAMES_0 ", " WGMMA_NAMES_16 ", " WGMMA_NAMES_32, "%48", "%49", "%50", "%51",
      WGMMA_SIXTEEN(d, 0), WGMMA_SIXTEEN(d, 16), WGMMA_SIXTEEN(d, 32))
WGMMA(192, 96, WGMMA_NAMES_0 ", " WGMMA_NAMES_16 ", " WGMMA_NAMES_32 ", " WGMMA_NAMES_48 ", " WGMMA_NAMES_64 ", " WGMMA_NAMES_80, "%96", "%97", "%98", "%99",
      WGMMA_SIXTEEN(d, 0), WGMMA_SIXTEEN(d, 16), WGMMA_SIXTEEN(d, 32), WGMMA_SIXTEEN(d, 48),
      WGMMA_SIXTEEN(d, 64), WGMMA_SIXTEEN(d, 80))
WGMMA(256, 128, WGMMA_NAMES_0 ", " WGMMA_NAMES_16 ", " WGMMA_NAMES_32 ", " WGMMA_NAMES_48 ", "
      WGMMA_NAMES_64 ", " WGMMA_NAMES_80 ", " WGMMA_NAMES_96 ", " WGMMA_NAMES_112, "%128", "%129", "%130", "%131",
      WGMMA_SIXTEEN(d, 0), WGMMA_SIXTEEN(d, 16), WGMMA_SIXTEEN(d, 32), WGMMA_SIXTEEN(d, 48),
      WGMMA_SIXTEEN(d, 64), WGMMA_SIXTEEN(d, 80), WGMMA_SIXTEEN(d, 96), WGMMA_SIXTEEN(d, 112))

#undef WGMMA
