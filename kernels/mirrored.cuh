// Whatever the host passes to kernels, and the numbers both use, are declared twice: here, and in structs.rs and numbers.rs
// of src/backend/cuda. MIRRORED checks a structure against its namesake there, field by field, and a group of numbers value
// by value; the build includes its definition (layouts.rs) before each file.
#pragma once

#ifndef MIRRORED
#define MIRRORED(name) static_assert(true, "for editors and stand-alone compiles")
#endif
