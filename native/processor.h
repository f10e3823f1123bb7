// Which of the loops that are compiled for several instruction sets run here.
#pragma once

namespace mixmatch {

enum class Level { v1, v3, v4, v4_bf16 }; // any x86-64; AVX2 and FMA; AVX-512; … and its bfloat16

// The best that this processor has, or what MIXMATCH_KERNELS names, if it has that. Decided once in a process.
Level kernel_level();

} // namespace mixmatch
