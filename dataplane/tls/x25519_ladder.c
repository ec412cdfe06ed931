/* The Montgomery ladder of X25519 (RFC 7748 5) over vectors of four field elements, for processors with AVX-512 IFMA: 52 bits times 52 bits, the low or the
 * high half of it added to a sum. What it gives is a fraction; x25519.c divides.
 *
 * Four elements stand side by side, element k in lane k, limbs of 51 bits as in x25519.c. A ladder step is three multiplications of four at a time:
 *   (A, B, C, D) by (A, B, B, A), where A, B = x2 +- z2 and C, D = x3 +- z3: AA, BB, CB, DA
 *   (AA, E, DA + CB, DA - CB) by (BB, 121665, the same, the same), where E = AA - BB: x2, 121665 E, x3, and a square
 *   (x2, E, x3, the square) by (1, AA + 121665 E, 1, x1): x2, z2, x3, z3
 *
 * A multiplication takes limbs below 2^52 and gives tight ones (below 2^51 + 2^15); of sums and differences limbs are carried first.
 * Invariant: no branch and no address depends on the secret. */
#include <immintrin.h>

#include "dataplane/core/base.h"
#include "dataplane/tls/x25519.h"

#define IFMA __attribute__((target("avx2,avx512f,avx512vl,avx512ifma")))
#define INLINE static inline __attribute__((always_inline)) IFMA
#define SWAP_PAIRS 0xb1  /* lanes 1 0 3 2 */
#define SWAP_HALVES 0x4e /* lanes 2 3 0 1 */

struct four { /* [i]: limb i of four elements */
	__m256i v[5];
};

bool x25519_has_ladder(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512ifma");
}

INLINE __m256i times_19(__m256i a)
{
	return _mm256_add_epi64(_mm256_add_epi64(_mm256_slli_epi64(a, 4), _mm256_slli_epi64(a, 1)), a);
}

/* Limbs below 2^61: all hand on at once what is above 51 bits. What comes out is tight. */
INLINE struct four carried(__m256i r0, __m256i r1, __m256i r2, __m256i r3, __m256i r4)
{
	const __m256i mask = _mm256_set1_epi64x((1ll << 51) - 1);

	return (struct four){{
		_mm256_add_epi64(_mm256_and_si256(r0, mask), times_19(_mm256_srli_epi64(r4, 51))),
		_mm256_add_epi64(_mm256_and_si256(r1, mask), _mm256_srli_epi64(r0, 51)),
		_mm256_add_epi64(_mm256_and_si256(r2, mask), _mm256_srli_epi64(r1, 51)),
		_mm256_add_epi64(_mm256_and_si256(r3, mask), _mm256_srli_epi64(r2, 51)),
		_mm256_add_epi64(_mm256_and_si256(r4, mask), _mm256_srli_epi64(r3, 51)),
	}};
}

/* A product's high half stands for 2^52, a limb for 2^51: it counts twice, one limb on. Five products of 52 bits, twice five above them: below 2^56; with what
 * is beyond 2^255, nineteen times: below 2^61. */
INLINE struct four mul(const struct four *a, const struct four *b)
{
	__m256i lo[10], hi[10];

	for (int i = 0; i < 10; i++)
		lo[i] = hi[i] = _mm256_setzero_si256();
#pragma GCC unroll 5
	for (int i = 0; i < 5; i++) {
#pragma GCC unroll 5
		for (int j = 0; j < 5; j++) {
			lo[i + j] = _mm256_madd52lo_epu64(lo[i + j], a->v[i], b->v[j]);
			hi[i + j + 1] = _mm256_madd52hi_epu64(hi[i + j + 1], a->v[i], b->v[j]);
		}
	}
#pragma GCC unroll 10
	for (int i = 0; i < 10; i++)
		lo[i] = _mm256_add_epi64(lo[i], _mm256_add_epi64(hi[i], hi[i]));
#pragma GCC unroll 5
	for (int i = 0; i < 5; i++)
		lo[i] = _mm256_add_epi64(lo[i], times_19(lo[i + 5]));
	return carried(lo[0], lo[1], lo[2], lo[3], lo[4]);
}

/* Lanes of b instead of a's where the mask has a bit. */
INLINE struct four blend(const struct four *a, const struct four *b, __mmask8 mask)
{
	struct four r;

#pragma GCC unroll 5
	for (int i = 0; i < 5; i++)
		r.v[i] = _mm256_mask_mov_epi64(a->v[i], mask, b->v[i]);
	return r;
}

#define PERMUTED(a, order)                                                                                                                              \
	((struct four){{_mm256_permute4x64_epi64((a).v[0], order), _mm256_permute4x64_epi64((a).v[1], order), _mm256_permute4x64_epi64((a).v[2], order),   \
			_mm256_permute4x64_epi64((a).v[3], order), _mm256_permute4x64_epi64((a).v[4], order)}})

/* (a + b) where the mask has no bit, (b - a) where it has; both tight before and after. 4p keeps limbs from falling below nothing. */
INLINE struct four sum_or_difference(const struct four *a, const struct four *b, __mmask8 mask)
{
	const __m256i low = _mm256_set1_epi64x(0x1fffffffffffb4ll), high = _mm256_set1_epi64x(0x1ffffffffffffcll);
	__m256i r[5];

#pragma GCC unroll 5
	for (int i = 0; i < 5; i++) {
		__m256i sum = _mm256_add_epi64(a->v[i], b->v[i]);
		r[i] = _mm256_mask_sub_epi64(sum, mask, _mm256_add_epi64(b->v[i], i ? high : low), a->v[i]);
	}
	return carried(r[0], r[1], r[2], r[3], r[4]);
}

INLINE struct four step(const struct four *v, const struct four *last)
{
	struct four other = PERMUTED(*v, SWAP_PAIRS), p = sum_or_difference(v, &other, 0x0a); /* A, B, C, D */
	struct four q = PERMUTED(p, 0x14);                                                    /* A, B, B, A */
	struct four m = mul(&p, &q);                                                          /* AA, BB, CB, DA */
	struct four n = PERMUTED(m, SWAP_PAIRS);                                              /* BB, AA, DA, CB */

	/* lane 1: AA - BB; 2: CB + DA; 3: CB - DA, whose square is that of DA - CB */
	struct four s = sum_or_difference(&m, &n, 0x0a);
	struct four left = blend(&s, &m, 0x01), right = blend(&s, &n, 0x01);
	right.v[0] = _mm256_mask_mov_epi64(right.v[0], 0x02, _mm256_set1_epi64x(121665));
#pragma GCC unroll 4
	for (int i = 1; i < 5; i++)
		right.v[i] = _mm256_mask_mov_epi64(right.v[i], 0x02, _mm256_setzero_si256());
	struct four t = mul(&left, &right); /* x2, 121665 E, x3, (DA - CB)^2 */
	struct four z = sum_or_difference(&t, &n, 0); /* lane 1: AA + 121665 E */
	z = blend(last, &z, 0x02);
	t = blend(&t, &s, 0x02);
	return mul(&t, &z);
}

IFMA void x25519_ladder(struct x25519_fraction *out, const uint8_t e[X25519_BYTES], const struct x25519_fe *x1)
{
	struct four v, last;
	uint64_t was = 0;

	for (int i = 0; i < 5; i++) {
		v.v[i] = _mm256_set_epi64x(i == 0, (int64_t)x1->v[i], 0, i == 0); /* 1, 0, x1, 1 */
		last.v[i] = _mm256_set_epi64x((int64_t)x1->v[i], i == 0, 0, i == 0);
	}
	for (int t = 254; t >= 0; t--) {
		uint64_t bit = e[t / 8] >> (t % 8) & 1u;
		struct four swapped = PERMUTED(v, SWAP_HALVES);
		v = blend(&v, &swapped, (__mmask8)(0 - (bit ^ was)));
		was = bit;
		v = step(&v, &last);
	}
	struct four swapped = PERMUTED(v, SWAP_HALVES);
	v = blend(&v, &swapped, (__mmask8)(0 - was));
	for (int i = 0; i < 5; i++) {
		out->above.v[i] = (uint64_t)_mm256_extract_epi64(v.v[i], 0);
		out->below.v[i] = (uint64_t)_mm256_extract_epi64(v.v[i], 1);
	}
}
