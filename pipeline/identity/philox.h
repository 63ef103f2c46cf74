// Random numbers that depend on their name alone: the same on every device, in any order, for any number of workers.
//
// Generator: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC11; test
// vectors of Random123). A stream is a 64-bit Philox key; the 128-bit counter (c0, c1, c2, c3) names a block of four
// 32-bit words (w0, w1, w2, w3) in it.
//
// Stream keys: the first 8 bytes, little-endian (k0 low, k1 high), of SHA-256 over
//     "storyfarm draws 1" 0x00 <purpose> 0x00 <seed as 8 bytes, little-endian> <subject's bytes>
// Layout, by purpose:
//     purpose       seed                 subject          (c0, c1, c2, c3)
//     "noise"       the frame's          panel id         (block, 0, 0, 0)
//     "hidden"      the frame's          character key    (block, i, 0, 0)           hidden identity frame i
//     "shared"      the frame's          none             (block, i, 0, 0)           identity frame i; read frames: 0
//     "step noise"  as the frame's noise, same subject    (block, i, step + 1, 0)
//     "gate"        kGateSeed            none             (0, step, layer, 0)
//     "tokens"      the story's          character key    (block, i, step, h << 16 | w)   grid of h x w tokens
// Numbers made of words:
//     uniform in [0, 1):  (w0 << 32 | w1) >> 11, times 2^-53
//     normal, elements 4b to 4b + 3 of block b (row-major):  Box and Muller over (w0, w1), then over (w2, w3):
//         r = sqrt(-2 ln((wa + 1) 2^-32)), t = 2 pi wb 2^-32: r cos t, r sin t; in float64, rounded to float32
//     k distinct of N tokens:  token t has rank (w0 << 32 | w1) of block t / 2 where t is even, (w2 << 32 | w3) where
//     odd;
//         the k tokens of smallest (rank, t) are kept, ascending
#ifndef STORYFARM_PIPELINE_IDENTITY_PHILOX_H_
#define STORYFARM_PIPELINE_IDENTITY_PHILOX_H_

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace storyfarm::identity {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

// One block.
PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key);

// The key of a stream, as above.
PhiloxKey StreamKey(std::string_view purpose, uint64_t seed, std::string_view subject);

// Uniform in [0, 1) with 53 bits, from the block's first two words.
double UniformOf(const PhiloxCounter& block);

// `count` normal numbers; c1, c2 and c3 as in `counter`, c0 counts blocks from 0.
std::vector<float> Normals(PhiloxKey key, PhiloxCounter counter, int64_t count);

// `keep` distinct numbers of 0 .. count - 1, ascending. 0 <= keep <= count.
std::vector<int32_t> DistinctTokens(PhiloxKey key, PhiloxCounter counter, int64_t count, int64_t keep);

}  // namespace storyfarm::identity

#endif  // STORYFARM_PIPELINE_IDENTITY_PHILOX_H_
