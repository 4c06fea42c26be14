// Losses over logits, in f64, as src/backend/cpu/loss.rs has them.

enum LossKind { BCE = 0, WBCE = 1, MSE = 2, KERAS_BCE = 3 };

// keras' epsilon()
#define KERAS_EPSILON 1e-7

__device__ __forceinline__ double sigmoid64(double z) {
    double e = exp(-fabs(z));
    return z >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}

struct Sample { double loss, slope; };

__device__ __forceinline__ Sample cross_entropy(bool on, double z, double y, double p, double clamped) {
    // -(y ln p + (1 - y) ln(1 - p)) with ln p = -ln(1 + e^-z), so that nothing is lost for large
    // |z|.
    double loss = on ? -(y * log(clamped) + (1.0 - y) * log(1.0 - clamped)) : (z > 0.0 ? z : 0.0) - y * z + log1p(exp(-fabs(z)));
    return Sample{loss, p - y};
}

// Binary cross entropy as torch has it, every step in f32.
__device__ __forceinline__ Sample of_probability(float z, float y, float clamp) {
    float p = __fdiv_rn(1.0f, 1.0f + (float)exp((double)-z));
    bool on = clamp > 0.0f && clamp < 1.0f;
    bool below = on && p < clamp, above = on && p > 1.0f - clamp;
    float c = below ? clamp : above ? 1.0f - clamp : p;
    double ones = log((double)c), zeros = log1p(-(double)c);
    float of_one = ones < -100.0 ? -100.0f : (float)ones, of_zero = zeros < -100.0 ? -100.0f : (float)zeros;
    float variance = (1.0f - c) * c;
    float slope = __fdiv_rn(c - y, variance < 1e-12f ? 1e-12f : variance);
    return Sample{(double)((y - 1.0f) * of_zero - y * of_one), below || above ? 0.0 : (double)(slope * (1.0f - p) * p)};
}

// Block `blockIdx.x`: dlogits of its samples of the mean over `over` times the loss scale, partial = their losses' sum
KERNEL loss_part(u32 kind, u32 of_p, float clamp, float weight0, float weight1, const float* logits, const float* labels, u32 n,
                 u32 over, const double* loss_scale, float* dlogits, double* partial) {
    double total = 0.0;
    float scale = (float)*loss_scale;
    double c = clamp;
    if (kind == KERAS_BCE && c < KERAS_EPSILON) c = KERAS_EPSILON;
    bool on = c > 0.0 && c < 1.0;
    FOR_ALL(i, n) {
        double z = logits[i], y = labels[i], p = sigmoid64(z);
        bool below = on && p < c, above = on && p > 1.0 - c;
        double clamped = below ? c : above ? 1.0 - c : p;
        Sample s;
        if (of_p) {
            float w = kind == BCE ? 1.0f : y >= 0.5 ? weight1 : weight0;
            s = of_probability(logits[i], labels[i], clamp);
            s = Sample{(double)(w * (float)s.loss), (double)(w * (float)s.slope)};
            below = above = false;
        } else if (kind == MSE) {
            s = Sample{(clamped - y) * (clamped - y), 2.0 * (clamped - y) * p * (1.0 - p)};
        } else if (kind == KERAS_BCE) {
            double p1 = clamped + KERAS_EPSILON, p0 = 1.0 - clamped + KERAS_EPSILON;
            s = Sample{-(y * log(p1) + (1.0 - y) * log(p0)), ((1.0 - y) / p0 - y / p1) * p * (1.0 - p)};
        } else {
            s = cross_entropy(on, z, y, p, clamped);
            // A label belongs to the nearer class, 0.5 to class 1.
            double w = kind == BCE ? 1.0 : y >= 0.5 ? weight1 : weight0;
            s = Sample{w * s.loss, w * s.slope};
        }
        total += s.loss;
        dlogits[i] = (float)((below || above ? 0.0 : s.slope) / (double)over) * scale;
    }
    total = block_sum(total);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// losses += sum of partials, out = losses / all; one block. A loss that is not finite stops the training.
KERNEL loss_join(const double* partial, u32 parts, u32 all, double* losses, float* out, u32* stopped) {
    double sum = 0.0;
    for (u32 i = threadIdx.x; i < parts; i += blockDim.x) sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    sum += *losses;
    *losses = sum;
    float loss = (float)(sum / (double)all);
    *out = loss;
    if ((__float_as_uint(loss) & 0x7f800000u) == 0x7f800000u) *stopped = 1;
}

// out = sigmoid(logits)
KERNEL probabilities(const float* logits, u32 n, float* out) { FOR_ALL(i, n) out[i] = (float)sigmoid64((double)logits[i]); }
