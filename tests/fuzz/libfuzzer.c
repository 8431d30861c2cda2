/* The entry of libFuzzer for the target that -DFUZZ_TARGET=fuzz_NAME names. */

#include "fuzz.h"

#ifndef FUZZ_TARGET /* for tools that only read this */
#define FUZZ_TARGET fuzz_line
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return FUZZ_TARGET(data, size);
}
