// Parameters p by gradients scale * g; `s0` and `s1` as many as the formula has.
template <class F>
__device__ __forceinline__ void update(const Step& r, float* p, const float* g, float* s0, float* s1, u64 n) {
    FOR_ALL(i, n) {
        float s[2] = {F::STATES > 0 ? s0[i] : 0.0f, F::STATES > 1 ? s1[i] : 0.0f};
        p[i] = F::element(r.c, p[i], r.scale * g[i], s);
        if (F::STATES > 0) s0[i] = s[0];
        if (F::STATES > 1) s1[i] = s[1];
    }
}

// The same, if the step has an update.
KERNEL dense_update(float* p, const float* g, float* s0, float* s1, u64 n, const Step* step) {
    Step r = *step;
    if (!r.on) return;
    WITH_FORMULA(r.kind, update<F>(r, p, g, s0, s1, n))
}
