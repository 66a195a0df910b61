/* float16 and float32 in plain C. Every float16 is a float32; back, it rounds to nearest even. */
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

static inline uint16_t me_half_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x3ffu)); /* NaN */
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and more: infinity */
    if (rest < 0x38800000u) { /* subnormal: adding 0.5 leaves units of 2^-24 in the low bits */
        float size;
        memcpy(&size, &rest, sizeof size);
        size += 0.5f;
        memcpy(&rest, &size, sizeof rest);
        return (uint16_t)(sign | (rest - 0x3f000000u));
    }
    return (uint16_t)(sign | ((rest - ((127u - 15u) << 23) + 0xfffu + (rest >> 13 & 1u)) >> 13));
}

#endif
