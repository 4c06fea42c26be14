use super::*;
use crate::engine::ranks::Load;
use proptest::prelude::*;

/// Four ranks on two hosts, with figures that are easy to reckon with.
fn cluster() -> Cluster {
    Cluster {
        flops: 1e9,
        memory: 1e8,
        fixed: 0.001,
        per_host: 2,
        inside: Link { latency: 1e-6, bandwidth: 4e8 },
        between: Link { latency: 1e-5, bandwidth: 1e8 },
        element: 4,
    }
}

fn placement(works: &[u64], sent: u64) -> Placement {
    let load = |work: &u64| Load { work: *work, bytes: 10 * work, sent, ..Load::default() };
    Placement { owners: vec![], everywhere: vec![], loads: works.iter().map(load).collect() }
}

const WORK: Work =
    Work { flops: 1e6, dense_moved: 2e5, dense_resident: 700, dense_gradients: 400_000 };

fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-12 + 1e-9 * expected.abs(), "{got} is not {expected}");
}

#[test]
fn a_step_as_placed_is_what_it_is_by_hand() {
    let placement = placement(&[30_000, 100, 0, 0], 600_000);
    let p = cluster().step(&WORK, &placement, 10, (Way::Placed, Noise::NONE));
    near(p.parts.fixed, 0.001 + 2e5 / 1e8);
    // Two of ten samples, and 30 kB for each of ten; the others have three, and few rows.
    near(p.parts.dense, 2.0 * 1e6 / 1e9);
    near(p.parts.rows, 30_000.0 * 10.0 / 1e8);
    // One of three others is on the same host: 200,000 bytes at 4e8, beside 400,000 at 1e8.
    near(p.parts.exchanges, 2e-5 + 400_000.0 / 1e8);
    // Twice three quarters of the gradients, two thirds of it to the other host; a small message.
    near(p.parts.sums, 2e-5 + 2.0 * 0.75 * 400_000.0 * (2.0 / 3.0) / 1e8 + 1e-5);
    near(p.seconds, p.parts.total());
    near(p.samples_per_second, 10.0 / p.seconds);
    assert_eq!(p.memory, 300_000 + 700);
}

#[test]
fn a_step_with_cut_tables_is_what_it_is_by_hand() {
    let placement = placement(&[300, 100, 0, 0], 600_000);
    let p = cluster().step(&WORK, &placement, 10, (Way::Split, Noise::NONE));
    near(p.parts.dense, 3.0 * 1e6 / 1e9);
    near(p.parts.rows, 100.0 * 10.0 / 1e8);
    // In a host each of two sends half, twice; between hosts each half of its half, twice.
    let inside = 2.0 * (1e-6 + 0.5 * 400_000.0 / 4e8);
    let between = 2.0 * (1e-5 + 0.5 * 200_000.0 / 1e8);
    near(p.parts.sums, inside + between + 1e-5);
    assert_eq!(p.memory, 1000 + 700);
    let halves = Cluster { element: 2, ..cluster() };
    let h = halves.step(&WORK, &placement, 10, (Way::Split, Noise::NONE));
    near(h.parts.exchanges - 2e-5, (p.parts.exchanges - 2e-5) / 2.0);
}

#[test]
fn within_a_host_no_link_to_another_counts() {
    let placement = placement(&[1, 1], 600_000);
    let dead = Link { latency: 9.0, bandwidth: 1e-9 };
    let cluster = Cluster { between: dead, ..cluster() };
    for way in [Way::Placed, Way::Split] {
        let (exchanges, sums) = cluster.messages(&placement, 400_000, way);
        near(exchanges, 2e-6 + 600_000.0 / 4e8);
        near(sums, 3e-6 + 400_000.0 / 4e8);
    }
}

#[test]
fn one_rank_sends_nothing() {
    for way in [Way::Placed, Way::Split] {
        let p = cluster().step(&WORK, &placement(&[5], 0), 7, (way, Noise::NONE));
        assert_eq!((p.parts.exchanges, p.parts.sums, p.jitter), (0.0, 0.0, 0.0));
        near(p.seconds, 0.003 + 7.0 * 1e6 / 1e9 + 35.0 / 1e8);
        near(efficiency(&p, &p), 1.0);
    }
}

#[test]
fn equal_ranks_wait_as_long_as_the_harmonic_number_says() {
    for ranks in [1, 3, 8, 64] {
        let noise = Noise { jitter: 0.1, seed: 7, steps: 20_000 };
        let got = noise.adds(&vec![2.0; ranks]);
        let harmonic: f64 = (1..=ranks).map(|k| 1.0 / k as f64).sum();
        // The standard deviation of the greatest of many is at most pi / sqrt(6).
        assert!((got / 0.2 - harmonic).abs() < 4.0 * 1.29 / 20_000f64.sqrt(), "{ranks}: {got}");
        assert_eq!(got.to_bits(), noise.adds(&vec![2.0; ranks]).to_bits(), "the same seed");
        assert_ne!(got, Noise { seed: 8, ..noise }.adds(&vec![2.0; ranks]));
    }
}

#[test]
fn who_is_far_behind_is_waited_for_alone() {
    let noise = Noise { jitter: 0.01, seed: 1, steps: 5_000 };
    let got = noise.adds(&[1.0, 0.1, 0.1, 0.1]);
    assert!((got - 0.01).abs() < 0.001, "{got}");
}

proptest! {
    #[test]
    fn better_machines_are_never_slower(
        works in prop::collection::vec(0u64..1_000_000, 1..40),
        sent in 0u64..100_000_000,
        batch in 1usize..10_000,
        per_host in 1usize..9,
        which in 0usize..7,
        by in 1.0f64..10.0,
        jitter in 0.0f64..0.5,
        split: bool,
    ) {
        let placement = placement(&works, sent);
        let way = if split { Way::Split } else { Way::Placed };
        let noise = Noise { jitter, seed: 3, steps: 5 };
        let base = Cluster { per_host, ..cluster() };
        let mut better = base.clone();
        match which {
            0 => better.flops *= by,
            1 => better.memory *= by,
            2 => better.fixed /= by,
            3 => better.inside.bandwidth *= by,
            4 => better.between.bandwidth *= by,
            5 => better.inside.latency /= by,
            _ => better.between.latency /= by,
        }
        let slow = base.step(&WORK, &placement, batch, (way, noise)).seconds;
        let fast = better.step(&WORK, &placement, batch, (way, noise)).seconds;
        prop_assert!(fast <= slow * (1.0 + 1e-12), "{fast} {slow}");
        let calm = base.step(&WORK, &placement, batch, (way, Noise::NONE)).seconds;
        prop_assert!(calm <= slow * (1.0 + 1e-12));
        let more = base.step(&WORK, &placement, batch + 1, (way, Noise::NONE)).seconds;
        prop_assert!(more >= calm * (1.0 - 1e-12), "more samples take no less");
    }
}
