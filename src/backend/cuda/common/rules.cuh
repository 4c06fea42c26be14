// The update rules of src/optim/rules.rs, operation by operation (these kernels are compiled
// without fused multiply-add).

enum RuleKind { SGD = 0, ADAGRAD = 1, ROWWISE_ADAGRAD = 2, ADAM = 3 };

// One application of a rule, in device memory since it changes with every step.
struct Step {
    u32 kind;
    float lr, eps, one_minus_beta1, beta2, one_minus_beta2, rate, root;
    // Every gradient is multiplied by this first.
    float scale;
    // What 16-bit rows are rounded with: key and upper counter words less the table.
    u32 key[2];
    u32 number[2];
    // Whether there is an update at all.
    u32 on;
};

// New value of a parameter `p` with gradient `g` and state `s`, which moves too. Rows of a row-wise
// rule go by `apply_scaled`.
__device__ __forceinline__ float apply(const Step& r, float p, float g, float (&s)[2]) {
    if (r.kind == SGD) return p - r.lr * g;
    if (r.kind == ADAM) {
        s[0] = s[0] + r.one_minus_beta1 * (g - s[0]);
        s[1] = s[1] * r.beta2 + r.one_minus_beta2 * g * g;
        float root = __fdiv_rn(__fsqrt_rn(s[1]), r.root) + r.eps;
        return p - __fdiv_rn(r.rate * s[0], root);
    }
    s[0] = s[0] + g * g;
    return p - __fdiv_rn(r.lr * g, __fsqrt_rn(s[0]) + r.eps);
}

// New value of an element of a row whose accumulator, already raised, is `m`.
__device__ __forceinline__ float apply_scaled(const Step& r, float p, float g, float m) {
    return p - r.lr * __fdiv_rn(g, __fsqrt_rn(m) + r.eps);
}

__device__ __forceinline__ u32 states(u32 kind) { return kind == SGD ? 0u : kind == ADAM ? 2u : 1u; }
