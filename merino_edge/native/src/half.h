/* float16 to float32 in plain C, exactly: every float16 is a float32. */
#ifndef ME_HALF_H
#define ME_HALF_H

#include <stdint.h>
#include <string.h>

static inline float me_float_from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t rest = half & 0x7fffu, bits;
    float value;
    if (rest < 0x0400u) { /* zero and subnormal: units of 2^-24 */
        value = (float)rest * 5.9604644775390625e-8f;
        return sign ? -value : value;
    }
    bits = sign | (rest >= 0x7c00u ? 0x7f800000u | (rest & 0x3ffu) << 13
                                   : (rest << 13) + ((127u - 15u) << 23));
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
