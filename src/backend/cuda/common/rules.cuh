// One application of an update rule, in device memory since it changes with every step. The
// formulas themselves (`Formula0`, ...) stand in front of this text, made from src/optim/rules
// (these kernels are compiled without fused multiply-add).
struct Step {
    u32 kind;
    float c[RULE_CONSTANTS];
    // Every gradient is multiplied by this first.
    float scale;
    // What 16-bit rows are rounded with: key and upper counter words less the table.
    u32 key[2];
    u32 number[2];
    // Whether there is an update at all.
    u32 on, unused;
};
