use super::*;
use crate::{
    backend::cpu::testing::{Numbers, bits, machines},
    optim::{OptimizerSpec, rules},
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn every_instruction_set_gives_the_bits_of_the_plain_rule(n in 0usize..70_000, scale in prop::sample::select(vec![1.0f32, 0.37]), seed: u64) {
        for rule in OptimizerSpec::examples() {
            let mut numbers = Numbers::new(seed);
            let (p, g) = (numbers.floats(n), numbers.floats(n));
            let buffers = rule.state().dense().count();
            let mut state = || -> Vec<f32> { (0..n).map(|_| numbers.float().abs()).collect() };
            let s0 = if buffers > 0 { state() } else { Vec::new() };
            let s1 = if buffers > 1 { state() } else { Vec::new() };
            let step = Step::new(&rule, 0.1, 3);
            let scaled: Vec<f32> = g.iter().map(|g| scale * g).collect();
            let mut want = (p.clone(), s0.clone(), s1.clone());
            rules::update(&step, &mut want.0, &scaled, &mut want.1, &mut want.2);
            for (isa, threads) in machines() {
                let mut got = (p.clone(), s0.clone(), s1.clone());
                update(&Pool::new(threads), isa, &step, scale, &mut got.0, &g, &mut got.1, &mut got.2);
                let same = bits(&got.0) == bits(&want.0) && bits(&got.1) == bits(&want.1) && bits(&got.2) == bits(&want.2);
                prop_assert!(same, "{:?}, {:?}, {} threads", rule, isa, threads);
            }
        }
    }

    #[test]
    fn the_sum_of_squares_depends_on_the_numbers_alone(n in 0usize..70_000, seed: u64) {
        let x = Numbers::new(seed).floats(n);
        let plain: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let mut partials = Vec::new();
        let first = sum_squares(&Pool::new(1), Isa::Portable, &x, &mut partials);
        prop_assert!((first - plain).abs() <= 1e-12 * plain);
        for (isa, threads) in machines() {
            let sum = sum_squares(&Pool::new(threads), isa, &x, &mut partials);
            prop_assert_eq!(sum.to_bits(), first.to_bits());
        }
    }
}

#[test]
fn the_rules_without_state_take_empty_state() {
    let rule = OptimizerSpec::SGD;
    let mut p = [1.0, 2.0];
    update(
        &Pool::new(1),
        Isa::best(),
        &Step::new(&rule, 0.5, 1),
        1.0,
        &mut p,
        &[2.0, 4.0],
        &mut [],
        &mut [],
    );
    assert_eq!(p, [0.0, 0.0]);
}
