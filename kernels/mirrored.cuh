// What the host passes to kernels is declared twice, here and in src/backend/cuda/structs.rs. MIRRORED holds a structure
// to its namesake there, field by field; the build includes its definition (layouts.rs) before each file.
#pragma once

#ifndef MIRRORED
#define MIRRORED(name) static_assert(true, "for editors and stand-alone compiles")
#endif
