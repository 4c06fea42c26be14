// Parameters p by gradients scale * g, if the step has an update; `s0` and `s1` as many as the rule
// has.
KERNEL dense_update(float* p, const float* g, float* s0, float* s1, u64 n, const Step* step) {
    Step r = *step;
    if (!r.on) return;
    u32 kept = states(r.kind);
    FOR_ALL(i, n) {
        float s[2] = {kept > 0 ? s0[i] : 0.0f, kept > 1 ? s1[i] : 0.0f};
        p[i] = apply(r, p[i], r.scale * g[i], s);
        if (kept > 0) s0[i] = s[0];
        if (kept > 1) s1[i] = s[1];
    }
}
