/* See x25519.h. Field elements are five limbs of 51 bits. "Tight": every limb below 2^51 + 2^15, what mul, sq and small return; "loose": below 2^54, what
 * they take. A sum of two tight ones is below 2^52 + 2^16, a difference below 2^54 where what is taken away is below 2^53 - 76.
 * Points are in the extended coordinates of the twisted Edwards curve (a = -1; Hisil, Wong, Carter, Dawson 2008), whose formulas have no exceptions here.
 * Invariant: no branch and no address depends on a secret. */
#include <assert.h>
#include <string.h>

#include <openssl/crypto.h>

#include "dataplane/core/base.h"
#include "dataplane/tls/x25519.h"

#define MASK ((1ull << 51) - 1)
__extension__ typedef unsigned __int128 u128;
typedef struct x25519_fe fe;

struct point { /* x = X/Z, y = Y/Z, xy = T/Z */
	fe x, y, z, t;
};

static const fe zero = {{0}}, one = {{1}};
/* The base point of RFC 8032 5.1, and twice the curve's d. */
static const uint8_t base_x[32] = {0x1a, 0xd5, 0x25, 0x8f, 0x60, 0x2d, 0x56, 0xc9, 0xb2, 0xa7, 0x25, 0x95, 0x60, 0xc7, 0x2c, 0x69,
				   0x5c, 0xdc, 0xd6, 0xfd, 0x31, 0xe2, 0xa4, 0xc0, 0xfe, 0x53, 0x6e, 0xcd, 0xd3, 0x36, 0x69, 0x21};
static const uint8_t base_y[32] = {0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
				   0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66};

/* ---- the field ---- */
static inline fe add(const fe *a, const fe *b)
{
	return (fe){{a->v[0] + b->v[0], a->v[1] + b->v[1], a->v[2] + b->v[2], a->v[3] + b->v[3], a->v[4] + b->v[4]}};
}

/* With 4p, so that no limb is below nothing. */
static inline fe sub(const fe *a, const fe *b)
{
	const uint64_t n = 0x1ffffffffffffcull;

	return (fe){{a->v[0] + 0x1fffffffffffb4ull - b->v[0], a->v[1] + n - b->v[1], a->v[2] + n - b->v[2], a->v[3] + n - b->v[3], a->v[4] + n - b->v[4]}};
}

static inline fe carried(u128 r0, u128 r1, u128 r2, u128 r3, u128 r4)
{
	fe r;

	r1 += (uint64_t)(r0 >> 51);
	r2 += (uint64_t)(r1 >> 51);
	r3 += (uint64_t)(r2 >> 51);
	r4 += (uint64_t)(r3 >> 51);
	r.v[0] = ((uint64_t)r0 & MASK) + 19 * (uint64_t)(r4 >> 51);
	r.v[1] = ((uint64_t)r1 & MASK) + (r.v[0] >> 51);
	r.v[0] &= MASK;
	r.v[2] = (uint64_t)r2 & MASK;
	r.v[3] = (uint64_t)r3 & MASK;
	r.v[4] = (uint64_t)r4 & MASK;
	return r;
}

static inline fe mul(const fe *f, const fe *g)
{
	const uint64_t *a = f->v, *b = g->v;
	uint64_t b1 = 19 * b[1], b2 = 19 * b[2], b3 = 19 * b[3], b4 = 19 * b[4];

	return carried((u128)a[0] * b[0] + (u128)a[1] * b4 + (u128)a[2] * b3 + (u128)a[3] * b2 + (u128)a[4] * b1,
		       (u128)a[0] * b[1] + (u128)a[1] * b[0] + (u128)a[2] * b4 + (u128)a[3] * b3 + (u128)a[4] * b2,
		       (u128)a[0] * b[2] + (u128)a[1] * b[1] + (u128)a[2] * b[0] + (u128)a[3] * b4 + (u128)a[4] * b3,
		       (u128)a[0] * b[3] + (u128)a[1] * b[2] + (u128)a[2] * b[1] + (u128)a[3] * b[0] + (u128)a[4] * b4,
		       (u128)a[0] * b[4] + (u128)a[1] * b[3] + (u128)a[2] * b[2] + (u128)a[3] * b[1] + (u128)a[4] * b[0]);
}

static inline fe sq(const fe *f)
{
	const uint64_t *a = f->v;
	uint64_t d0 = 2 * a[0], d1 = 2 * a[1], a3 = 19 * a[3], a4 = 19 * a[4], d3 = 2 * a3, d4 = 2 * a4;

	return carried((u128)a[0] * a[0] + (u128)a[1] * d4 + (u128)a[2] * d3, (u128)d0 * a[1] + (u128)a[2] * d4 + (u128)a[3] * a3,
		       (u128)d0 * a[2] + (u128)a[1] * a[1] + (u128)a[3] * d4, (u128)d0 * a[3] + (u128)d1 * a[2] + (u128)a[4] * a4,
		       (u128)d0 * a[4] + (u128)d1 * a[3] + (u128)a[2] * a[2]);
}

static inline fe small(const fe *f, uint32_t n)
{
	const uint64_t *a = f->v;

	return carried((u128)a[0] * n, (u128)a[1] * n, (u128)a[2] * n, (u128)a[3] * n, (u128)a[4] * n);
}

static fe sq_times(const fe *a, int n)
{
	fe r = *a;

	while (n--)
		r = sq(&r);
	return r;
}

/* a^(p - 2) = 1 / a; of nothing: nothing. */
static fe inverse(const fe *a)
{
	fe a2 = sq(a), t = sq_times(&a2, 2), a9 = mul(&t, a), a11 = mul(&a9, &a2), x5, x10, x20, x40, x50, x100;

	t = sq(&a11);
	x5 = mul(&t, &a9); /* xN: a^(2^N - 1) */
	t = sq_times(&x5, 5);
	x10 = mul(&t, &x5);
	t = sq_times(&x10, 10);
	x20 = mul(&t, &x10);
	t = sq_times(&x20, 20);
	x40 = mul(&t, &x20);
	t = sq_times(&x40, 10);
	x50 = mul(&t, &x10);
	t = sq_times(&x50, 50);
	x100 = mul(&t, &x50);
	t = sq_times(&x100, 100);
	t = mul(&t, &x100);
	t = sq_times(&t, 50);
	t = mul(&t, &x50);
	t = sq_times(&t, 5);
	return mul(&t, &a11);
}

static uint64_t load64(const uint8_t *b)
{
	uint64_t v;

	memcpy(&v, b, 8); /* x86: little-endian, as the wire */
	return v;
}

/* The highest bit is not looked at (RFC 7748 5). */
static fe load(const uint8_t b[32])
{
	return (fe){{load64(b) & MASK, load64(b + 6) >> 3 & MASK, load64(b + 12) >> 6 & MASK, load64(b + 19) >> 1 & MASK, load64(b + 24) >> 12 & MASK}};
}

static void store(uint8_t out[32], const fe *a)
{
	fe r = carried(a->v[0], a->v[1], a->v[2], a->v[3], a->v[4]);
	uint64_t q = (r.v[0] + 19) >> 51; /* 1 where the value is p or more */

	for (int i = 1; i < 5; i++)
		q = (r.v[i] + q) >> 51;
	r.v[0] += 19 * q;
	for (int i = 0; i < 4; i++) {
		r.v[i + 1] += r.v[i] >> 51;
		r.v[i] &= MASK;
	}
	r.v[4] &= MASK;
	const uint64_t words[4] = {r.v[0] | r.v[1] << 51, r.v[1] >> 13 | r.v[2] << 38, r.v[2] >> 26 | r.v[3] << 25, r.v[3] >> 39 | r.v[4] << 12};
	memcpy(out, words, 32);
}

/* ---- the base point's multiples ---- */
static inline void from_parts(struct point *p, const fe *e, const fe *f, const fe *g, const fe *h)
{
	p->x = mul(e, f);
	p->y = mul(g, h);
	p->t = mul(e, h);
	p->z = mul(f, g);
}

static inline void add_niels(struct point *p, const struct x25519_niels *n)
{
	fe minus = sub(&p->y, &p->x), plus = add(&p->y, &p->x), d = add(&p->z, &p->z);
	fe a = mul(&minus, &n->minus), b = mul(&plus, &n->plus), c = mul(&p->t, &n->t2d);
	fe e = sub(&b, &a), f = sub(&d, &c), g = add(&d, &c), h = add(&b, &a);

	from_parts(p, &e, &f, &g, &h);
}

static inline void twice(struct point *p)
{
	fe a = sq(&p->x), b = sq(&p->y), zz = sq(&p->z), xy = add(&p->x, &p->y), s = sq(&xy), c = add(&zz, &zz);
	fe h = add(&a, &b), e = sub(&h, &s), g = sub(&a, &b), f = add(&c, &g);

	from_parts(p, &e, &f, &g, &h);
}

static void niels_of(struct x25519_niels *n, const struct point *p, const fe *d2)
{
	fe z = inverse(&p->z), x = mul(&p->x, &z), y = mul(&p->y, &z), t = mul(&x, &y), plus = add(&y, &x), minus = sub(&y, &x);

	n->plus = small(&plus, 1); /* tight */
	n->minus = small(&minus, 1);
	n->t2d = mul(&t, d2);
}

void x25519_table_fill(struct x25519_table *t)
{
	const fe n121665 = {{121665}}, n121666 = {{121666}};
	fe inv = inverse(&n121666), d = mul(&n121665, &inv), d2 = add(&d, &d);
	struct point p = {.x = load(base_x), .y = load(base_y), .z = one};

	d2 = sub(&zero, &d2); /* d is -121665/121666 */
	d2 = small(&d2, 1);
	p.t = mul(&p.x, &p.y);
	for (int i = 0; i < 32; i++) {
		struct point q = p;
		niels_of(&t->of[i][0], &p, &d2);
		for (int j = 1; j < 8; j++) {
			add_niels(&q, &t->of[i][0]);
			niels_of(&t->of[i][j], &q, &d2);
		}
		for (int k = 0; k < 8; k++)
			twice(&p);
	}
}

static inline void take_if(fe *to, const fe *from, uint64_t mask)
{
	for (int i = 0; i < 5; i++)
		to->v[i] ^= mask & (to->v[i] ^ from->v[i]);
}

typedef uint64_t vector __attribute__((vector_size(32), aligned(8), may_alias));
#define VECTORS (sizeof(struct x25519_niels) / sizeof(vector))
static_assert(sizeof(struct x25519_niels) % sizeof(vector) == 0, "a row is looked at by vectors");

/* n times the row's point, -8 <= n <= 8. All of the row is read, whatever n is. */
static inline void choose(struct x25519_niels *out, const struct x25519_niels row[8], int8_t n)
{
	uint64_t negative = 0 - (uint64_t)((uint8_t)n >> 7);
	uint64_t size = (uint64_t)(uint8_t)((n ^ (int8_t)negative) - (int8_t)negative), is_none = 0 - ((size - 1) >> 63);
	static const struct x25519_niels nothing = {.plus = {{1}}, .minus = {{1}}};
	const vector *from = (const vector *)(const void *)&nothing;
	vector sum[VECTORS];

	for (size_t i = 0; i < VECTORS; i++)
		sum[i] = from[i] & is_none;
	for (uint64_t j = 0; j < 8; j++) {
		uint64_t mask = 0 - (((size ^ (j + 1)) - 1) >> 63);
		from = (const vector *)(const void *)&row[j];
		for (size_t i = 0; i < VECTORS; i++)
			sum[i] |= from[i] & mask;
	}
	memcpy(out, sum, sizeof(*out));
	fe plus = out->plus, t2d = sub(&zero, &out->t2d);
	take_if(&out->plus, &out->minus, negative);
	take_if(&out->minus, &plus, negative);
	take_if(&out->t2d, &t2d, negative);
}

static void clamp(uint8_t e[32], const uint8_t secret[32])
{
	memcpy(e, secret, 32);
	e[0] &= 248;
	e[31] = (uint8_t)((e[31] & 127) | 64);
}

/* Sixty-four digits of -8 to 8 in base 16. */
static void digits_of(int8_t digits[64], const uint8_t e[32])
{
	int carry = 0;

	for (int i = 0; i < 64; i++) {
		int n = (e[i / 2] >> (i % 2 * 4) & 15) + carry;
		carry = i < 63 ? (n + 8) >> 4 : 0;
		digits[i] = (int8_t)(n - carry * 16);
	}
}

void x25519_public(const struct x25519_table *t, uint8_t out[X25519_BYTES], const uint8_t secret[X25519_BYTES])
{
	struct point p = {.x = zero, .y = one, .z = one, .t = zero};
	struct x25519_niels n;
	uint8_t e[32];
	int8_t digits[64];

	clamp(e, secret);
	digits_of(digits, e);
	for (int i = 1; i < 64; i += 2) {
		choose(&n, t->of[i / 2], digits[i]);
		add_niels(&p, &n);
	}
	for (int i = 0; i < 4; i++)
		twice(&p);
	for (int i = 0; i < 64; i += 2) {
		choose(&n, t->of[i / 2], digits[i]);
		add_niels(&p, &n);
	}
	fe above = add(&p.z, &p.y), below = sub(&p.z, &p.y), inv = inverse(&below), u = mul(&above, &inv); /* u = (1 + y) / (1 - y) */
	store(out, &u);
	OPENSSL_cleanse(e, sizeof(e));
	OPENSSL_cleanse(digits, sizeof(digits));
	OPENSSL_cleanse(&p, sizeof(p));
	OPENSSL_cleanse(&n, sizeof(n));
}

bool x25519_shared(uint8_t out[X25519_BYTES], const uint8_t secret[X25519_BYTES], const uint8_t public[X25519_BYTES])
{
	fe x1 = load(public), inv, x;
	struct x25519_fraction f;
	uint8_t e[X25519_BYTES], any = 0;

	clamp(e, secret);
	x25519_ladder(&f, e, &x1);
	inv = inverse(&f.below);
	x = mul(&f.above, &inv);
	store(out, &x);
	for (size_t i = 0; i < X25519_BYTES; i++)
		any |= out[i];
	OPENSSL_cleanse(e, sizeof(e));
	OPENSSL_cleanse(&f, sizeof(f));
	OPENSSL_cleanse(&inv, sizeof(inv));
	OPENSSL_cleanse(&x, sizeof(x));
	return any != 0;
}
