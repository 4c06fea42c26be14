// Samples of planted data, the bits of src/data/source/planted: what is drawn for a sample depends
// on (seed, split, its number) alone, so a thread makes whatever part of it is convenient. Structs
// are those of src/data/source/planted/numbers.rs.

#define STREAM 4u
#define ATTEMPTS 60u
#define LARGEST_LOG_COUNT 15.0

struct Log { double gain, bias; u32 key0, key1, tables, dense, pairs, unused; };
struct Column {
    double n, p, inverse_p, first, span, squeeze;
    u32 hotness, base, missing, m, mask, shift;
    u32 odd[4][2];
    u32 turn[4];
    u32 weight_key, latent_key;
    float weight_scale;
    u32 unused;
};
struct Pair { u32 a, b; float scale; };
struct Count { double location, scale; u32 missing; float centre, inverse_width, rise, hump; u32 unused; };

__device__ __forceinline__ Words draw(const Log& log, u32 split, u32 attempt, u32 field, u64 sample) {
    return philox(log.key0, log.key1, sample, field, STREAM << 24 | split << 16 | attempt);
}

// Ranks by rejection-inversion (zipf.rs).

struct Candidate { double t, rank; bool sure; };

__device__ __forceinline__ double power(double x, double y) { return exact_exp(exact_ln(x) * y); }

__device__ __forceinline__ Candidate candidate(const Column& c, double u) {
    double t = c.first + u * c.span;
    double x = power(t, c.inverse_p);
    double k = exact_floor(x + 0.5);
    double rank = k < 1.0 ? 1.0 : k > c.n ? c.n : k;
    return Candidate{t, rank, (x - rank + 0.5) * (rank * rank) >= c.squeeze || rank < 1.5};
}

__device__ __forceinline__ bool accept(const Column& c, Candidate k) {
    double border = power(k.rank + 0.5, c.p) - c.p * power(k.rank, c.p - 1.0);
    return c.p > 0.0 ? k.t >= border : k.t <= border;
}

// A rank's place in its table (scatter.rs).
__device__ __forceinline__ u32 scatter(const Column& c, u32 x) {
    for (u32 round = 0; round < 4; ++round) {
        u32 y = (x * c.odd[round][0]) & c.mask;
        y ^= y >> c.shift;
        y = (y * c.odd[round][1]) & c.mask;
        x = x <= c.mask ? y : x;
        x += c.turn[round];
        x = x >= c.m ? x - c.m : x;
    }
    return x;
}

// The ids of samples `first..first + n`; `blockIdx.y` is the table, `id_base` as in Input.
KERNEL planted_ids(const Log* log, const Column* columns, u32 split, u64 first, u32 n, const u32* id_base, u32* ids) {
    u32 table = blockIdx.y;
    const Column& c = columns[table];
    u32* to = ids + id_base[table];
    FOR_ALL(i, (u64)n * c.hotness) {
        u32 sample = (u32)i / c.hotness, slot = (u32)i - sample * c.hotness, field = slot << 16 | table;
        Words words = draw(*log, split, 0, field, first + sample);
        Candidate k = candidate(c, open_unit(words.w[0], words.w[1]));
        for (u32 attempt = 1; !k.sure && !accept(c, k) && attempt <= ATTEMPTS; ++attempt) {
            Words again = draw(*log, split, attempt, field, first + sample);
            k = candidate(c, open_unit(again.w[0], again.w[1]));
        }
        u32 id = c.base + scatter(c, exact_u32(k.rank) - 1);
        to[i] = words.w[2] < c.missing ? 0u : id;
    }
}

// Where the ids of each table begin, and their number; where there are offsets, those of all bags.
KERNEL planted_bags(const Log* log, const Column* columns, u32 n, u32* id_base, u32* offsets) {
    u32 table = blockIdx.y;
    if (blockIdx.x == 0 && threadIdx.x == 0 && table == 0) {
        u32 base = 0;
        for (u32 t = 0; t < log->tables; ++t) {
            id_base[t] = base;
            base += n * columns[t].hotness;
        }
        id_base[log->tables] = base;
    }
    if (offsets) FOR_ALL(i, n + 1) offsets[(u64)table * (n + 1) + i] = (u32)i * columns[table].hotness;
}

// Dense features `[n, width]`, zeros beyond those that there are. Two columns share four random
// words, and a thread.
KERNEL planted_dense(const Log* log, const Count* counts, u32 split, u64 first, u32 n, float* dense, u32 width) {
    u32 twos = (width + 1) / 2;
    FOR_ALL(i, (u64)n * twos) {
        u32 sample = (u32)(i / twos), pair = (u32)(i % twos);
        Words words = {};
        if (2 * pair < log->dense) words = draw(*log, split, 0, log->tables + pair, first + sample);
        for (u32 k = 0; k < 2; ++k) {
            u32 column = 2 * pair + k;
            if (column >= width) break;
            float y = 0.0f;
            if (column < log->dense) {
                const Count& c = counts[column];
                double u = open_unit(k ? words.w[2] : words.w[0], 0x80000000u);
                double of = c.location + c.scale * exact_ln(u / (1.0 - u));
                double x = exact_floor(exact_exp(of > LARGEST_LOG_COUNT ? LARGEST_LOG_COUNT : of));
                y = (k ? words.w[3] : words.w[1]) < c.missing ? 0.0f : (float)exact_ln(x + 1.0);
            }
            dense[(u64)sample * width + column] = y;
        }
    }
}

// The truth (truth.rs). Sums over bags are of small integers, so their order does not matter.

__device__ __forceinline__ u32 hash(u32 id, u32 key) {
    u32 h = (id * 0x9e3779b9u) ^ key;
    h ^= h >> 16;
    h *= 0x85ebca6bu;
    h ^= h >> 13;
    h *= 0xc2b2ae35u;
    return h ^ h >> 16;
}

__device__ __forceinline__ float weight(const Column& c, const u32* bag) {
    float sum = 0.0f;
    for (u32 slot = 0; slot < c.hotness; ++slot) {
        u32 h = hash(bag[slot], c.weight_key);
        u32 two = (h & 0x00ff00ffu) + (h >> 8 & 0x00ff00ffu);
        sum += (float)(int)((two & 0xffffu) + (two >> 16)) - 510.0f;
    }
    return sum;
}

struct Latent { float u[4]; };

__device__ __forceinline__ Latent latent(const Column& c, const u32* bag) {
    Latent sum = {};
    for (u32 slot = 0; slot < c.hotness; ++slot) {
        u32 h = hash(bag[slot], c.latent_key);
        for (u32 k = 0; k < 4; ++k) sum.u[k] += (float)((int)(h >> 8 * k & 255u) * 2 - 255);
    }
    return sum;
}

// The labels of the samples whose ids and dense features have been made.
KERNEL planted_labels(const Log* log, const Column* columns, const Pair* pairs, const Count* counts, u32 split, u64 first, u32 n,
                      const u32* id_base, const u32* ids, const float* dense, u32 width, float* labels) {
    FOR_ALL(i, n) {
        float logit = 0.0f;
        for (u32 t = 0; t < log->tables; ++t) {
            const Column& c = columns[t];
            logit += c.weight_scale * weight(c, ids + id_base[t] + i * c.hotness);
        }
        // A table is in four pairs at most: hashing its ids again costs less than keeping all
        // vectors.
        for (u32 p = 0; p < log->pairs; ++p) {
            const Column &a = columns[pairs[p].a], &b = columns[pairs[p].b];
            Latent u = latent(a, ids + id_base[pairs[p].a] + i * a.hotness), v = latent(b, ids + id_base[pairs[p].b] + i * b.hotness);
            logit += pairs[p].scale * (u.u[0] * v.u[0] + u.u[1] * v.u[1] + (u.u[2] * v.u[2] + u.u[3] * v.u[3]));
        }
        for (u32 d = 0; d < log->dense; ++d) {
            const Count& c = counts[d];
            float z = (dense[i * width + d] - c.centre) * c.inverse_width;
            float q = __fdiv_rn(1.0f, 1.0f + z * z);
            logit += c.rise * z * __fsqrt_rn(q) + c.hump * (q - 0.5f);
        }
        double probability = 1.0 / (1.0 + exact_exp(-(log->bias + log->gain * (double)logit)));
        Words coin = draw(*log, split, 0, log->tables + log->dense, first + i);
        labels[i] = open_unit(coin.w[0], coin.w[1]) < probability ? 1.0f : 0.0f;
    }
}
