//! numpy's legacy generator (`numpy.random.RandomState`, MT19937 of Matsumoto & Nishimura 1998),
//! bit for bit: programs that call `numpy.random.seed(s)` with an integer draw exactly these
//! numbers.

const N: usize = 624;
const M: usize = 397;

/// State of the generator: MT19937's words and the second value of the last pair of normal numbers.
#[derive(Debug, Clone)]
pub struct RandomState {
    words: Box<[u32; N]>,
    /// Next word to hand out; `N` = make new ones first.
    at: usize,
    gauss: Option<f64>,
}

impl RandomState {
    /// `numpy.random.seed(seed)`: MT19937's `init_genrand`.
    pub fn new(seed: u32) -> Self {
        let mut words = Box::new([0; N]);
        let mut w = seed;
        for (i, slot) in words.iter_mut().enumerate() {
            if i > 0 {
                w = 1_812_433_253u32.wrapping_mul(w ^ (w >> 30)).wrapping_add(i as u32);
            }
            *slot = w;
        }
        RandomState { words, at: N, gauss: None }
    }

    /// What [`RandomState::restore`] goes on from: the words, and where it is in them. A second
    /// normal number that waits is left out.
    pub fn save(&self) -> Vec<u32> {
        self.words.iter().copied().chain([self.at as u32]).collect()
    }

    /// The generator as it was saved; `None` if that is no such state.
    pub fn restore(state: &[u32]) -> Option<Self> {
        let (words, at) = state.split_first_chunk::<N>()?;
        match at {
            &[at] if at as usize <= N => {
                Some(RandomState { words: Box::new(*words), at: at as usize, gauss: None })
            }
            _ => None,
        }
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.at == N {
            self.twist();
        }
        let mut y = self.words[self.at];
        self.at += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        let w = &mut self.words;
        for i in 0..N {
            let y = (w[i] & 0x8000_0000) | (w[(i + 1) % N] & 0x7fff_ffff);
            w[i] = w[(i + M) % N] ^ (y >> 1) ^ if y & 1 == 0 { 0 } else { 0x9908_b0df };
        }
        self.at = 0;
    }

    /// `random_sample()`: uniform in [0, 1) with 53 bits.
    pub fn random_sample(&mut self) -> f64 {
        let a = self.next_u32() >> 5;
        let b = self.next_u32() >> 6;
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// `uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random_sample()
    }

    /// `standard_normal()`: Marsaglia's polar method, which makes two values at a time; the second
    /// waits for the next call.
    pub fn standard_normal(&mut self) -> f64 {
        if let Some(g) = self.gauss.take() {
            return g;
        }
        loop {
            let x1 = 2.0 * self.random_sample() - 1.0;
            let x2 = 2.0 * self.random_sample() - 1.0;
            let r2 = x1 * x1 + x2 * x2;
            if r2 < 1.0 && r2 != 0.0 {
                // The logarithm of the platform's C library, as in numpy, so that both agree to the
                // last bit.
                let f = (-2.0 * r2.ln() / r2).sqrt();
                self.gauss = Some(f * x1);
                return f * x2;
            }
        }
    }

    /// `pareto(a)`.
    pub fn pareto(&mut self, a: f64) -> f64 {
        let exponential = -(1.0 - self.random_sample()).ln();
        (exponential / a).exp() - 1.0
    }

    /// `normal(mean, std)`.
    pub fn normal(&mut self, mean: f64, std: f64) -> f64 {
        mean + std * self.standard_normal()
    }

    /// A uniform integer in `0..=max`: bits under the smallest mask that covers `max`, drawn again
    /// while above it.
    pub fn interval(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let bits = if max <= u64::from(u32::MAX) {
                u64::from(self.next_u32())
            } else {
                u64::from(self.next_u32()) << 32 | u64::from(self.next_u32())
            };
            if bits & mask <= max {
                return bits & mask;
            }
        }
    }

    /// `shuffle(x)`: Fisher and Yates from the end.
    pub fn shuffle<T>(&mut self, x: &mut [T]) {
        for i in (1..x.len()).rev() {
            let j = self.interval(i as u64) as usize;
            x.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All expected numbers are printed by numpy 2.4.6 with `repr`.
    #[test]
    fn uniform_normal_and_permutation_equal_numpy() {
        // numpy.random.seed(123); random_sample(3)
        let mut r = RandomState::new(123);
        assert_eq!(
            [r.random_sample(), r.random_sample(), r.random_sample()],
            [UNIFORM[0], UNIFORM[1], UNIFORM[2]]
        );
        // then normal(1.0, 2.0, 3), uniform(-2, 5), normal()
        assert_eq!([r.normal(1.0, 2.0), r.normal(1.0, 2.0), r.normal(1.0, 2.0)], NORMAL);
        assert_eq!(r.uniform(-2.0, 5.0), AFTER[0]);
        assert_eq!(r.standard_normal(), AFTER[1]);
        // then permutation(13)
        let mut p: Vec<u32> = (0..13).collect();
        r.shuffle(&mut p);
        assert_eq!(p, PERMUTATION);
        // then 2000 words later
        for _ in 0..1000 {
            r.random_sample();
        }
        assert_eq!(r.random_sample(), AFTER[2]);
    }

    #[test]
    fn long_permutation_and_zero_seed_equal_numpy() {
        // numpy.random.seed(0); p = permutation(100003)
        let mut r = RandomState::new(0);
        let mut p: Vec<u32> = (0..100_003).collect();
        r.shuffle(&mut p);
        assert_eq!(p[..5], LONG_HEAD);
        let sum: u64 =
            p.iter().enumerate().map(|(i, &x)| i as u64 * u64::from(x) % 1_000_003).sum();
        assert_eq!(sum, LONG_SUM);
        assert_eq!(r.random_sample(), LONG_AFTER);
    }

    /// `numpy.random.seed(4294967295)`, the sum of 100,001 standard normal numbers in order: all
    /// logarithms and roots at once.
    #[test]
    fn many_normals_equal_numpy() {
        let mut r = RandomState::new(u32::MAX);
        let mut sum = 0.0;
        for _ in 0..100_001 {
            sum += r.standard_normal();
        }
        assert!((sum - NORMAL_SUM).abs() < 1e-9, "{sum}");
    }

    /// `numpy.random.seed(123)`: `randint(low, high)` is `low + interval(high - low - 1)`, whether
    /// drawn as an array or one by one.
    #[test]
    fn integers_equal_numpy() {
        let mut r = RandomState::new(123);
        // randint(0, 23, size=10), then five of randint(0, 23)
        let drawn: Vec<u64> = (0..15).map(|_| r.interval(22)).collect();
        assert_eq!(drawn, [13, 2, 2, 6, 17, 19, 10, 22, 1, 0, 17, 15, 9, 0, 14]);
        // randint(0, 1, size=4) draws nothing; then six of randint(0, 2)
        let drawn: Vec<u64> = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1].map(|max| r.interval(max)).to_vec();
        assert_eq!(drawn, [0, 0, 0, 0, 0, 1, 1, 1, 0, 1]);
        // randint(0, 23, size=100003), then permutation(range(13)), then random_sample()
        let sum: u64 = (0..100_003).map(|i| r.interval(22) * i % 1_000_003).sum();
        assert_eq!(sum, 35_288_568_827);
        let mut p: Vec<u32> = (0..13).collect();
        r.shuffle(&mut p);
        assert_eq!(p, [1, 11, 7, 4, 8, 2, 10, 12, 9, 5, 0, 6, 3]);
        assert_eq!(r.random_sample(), 0.33698716364451453);
    }

    #[test]
    fn paretos_equal_numpy() {
        // numpy.random.seed(0); pareto(0.25, 6)
        let mut r = RandomState::new(0);
        let drawn: Vec<f64> = (0..6).map(|_| r.pareto(0.25)).collect();
        let expected = [
            23.131017173702325,
            150.976066599029,
            39.16084769951183,
            22.308185532144666,
            8.062943567678355,
            62.601507937519855,
        ];
        for (ours, theirs) in drawn.iter().zip(expected) {
            assert!((ours / theirs - 1.0).abs() < 1e-14, "{ours} {theirs}");
        }
    }

    #[test]
    fn a_saved_generator_goes_on() {
        let mut r = RandomState::new(9);
        for draws in [0, 1, 623, 1000] {
            for _ in 0..draws {
                r.next_u32();
            }
            let mut again = RandomState::restore(&r.save()).unwrap();
            assert_eq!(again.next_u32(), r.next_u32());
        }
        assert!(
            RandomState::restore(&[0; N]).is_none()
                && RandomState::restore(&[N as u32 + 1; N + 1]).is_none()
        );
    }

    #[test]
    fn intervals_stay_in_range() {
        let mut r = RandomState::new(1);
        assert_eq!(r.interval(0), 0);
        for max in [1, 2, 6, 255, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
            for _ in 0..50 {
                assert!(r.interval(max) <= max);
            }
        }
    }

    const UNIFORM: [f64; 3] = [0.6964691855978616, 0.28613933495037946, 0.2268514535642031];
    const NORMAL: [f64; 3] = [4.476740266433653, 1.8129081942998602, 1.6442121366792433];
    const AFTER: [f64; 3] = [2.793808170094043, -0.0515177209393851, 0.7062661601303956];
    const PERMUTATION: [u32; 13] = [2, 1, 8, 7, 10, 4, 5, 6, 3, 12, 11, 0, 9];
    const LONG_HEAD: [u32; 5] = [3582, 60500, 76460, 21333, 3885];
    const LONG_SUM: u64 = 50079088464;
    const LONG_AFTER: f64 = 0.5599673445827189;
    const NORMAL_SUM: f64 = -69.61892256979887;
}
