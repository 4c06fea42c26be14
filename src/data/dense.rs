//! Transforms of dense features that need no look at the rest of the data, in f32 as the original
//! programs compute them.

use crate::data::source::config::DenseTransform;

/// Logarithms of small counts are looked up: most counts are small, and a logarithm costs more than
/// all the rest of reading one.
const TABLE: usize = 4096;

/// One transform, ready to be applied.
#[derive(Debug, Clone)]
pub struct Dense {
    transform: DenseTransform,
    table: Vec<f32>,
}

impl Dense {
    /// `transform`, unless it is one of those that look at the whole training split, or at a column.
    pub fn new(transform: DenseTransform) -> Option<Self> {
        if transform.of_column() {
            return None;
        }
        let mut dense = Dense { transform, table: Vec::new() };
        if transform != DenseTransform::Raw {
            dense.table = (0..TABLE).filter_map(|x| dense.compute(x as f64)).collect();
        }
        Some(dense)
    }

    /// The feature of `x`; a missing one (NaN) counts as 0. `None` where the logarithm has no
    /// value, or `x` none in f32.
    pub fn apply(&self, x: f64) -> Option<f32> {
        match self.table.get(x as usize) {
            // A negative number, a fraction and NaN are cut to a place in the table that is not
            // theirs.
            Some(&y) if x as usize as f64 == x => Some(y),
            _ => self.compute(if x.is_nan() { 0.0 } else { x }),
        }
    }

    /// The same of a whole number.
    #[inline]
    pub fn apply_whole(&self, x: i32) -> Option<f32> {
        // A negative number is a place far behind the table's end.
        match self.table.get(x as u32 as usize) {
            Some(&y) => Some(y),
            None => self.compute(f64::from(x)),
        }
    }

    /// What `x` has to be for [`Dense::apply`], as a phrase.
    pub fn domain(&self) -> &'static str {
        match self.transform {
            DenseTransform::LogPlus2 => "above -2 for dense_transform = \"log_plus2\"",
            DenseTransform::LogPlus3 => "above -3 for dense_transform = \"log_plus3\"",
            _ => "a finite number",
        }
    }

    /// torch's way: to f32, add, take the logarithm, each rounded to f32.
    fn compute(&self, x: f64) -> Option<f32> {
        let x = x as f32;
        let y = match self.transform {
            DenseTransform::Log1pClamp0 => libm::logf(x.max(0.0) + 1.0),
            DenseTransform::LogPlus2 => libm::logf(x + 2.0),
            DenseTransform::LogPlus3 => libm::logf(x + 3.0),
            DenseTransform::LogSqBucket => log_sq_bucket(f64::from(x)) as f32,
            DenseTransform::Raw
            | DenseTransform::MinMax
            | DenseTransform::Standard
            | DenseTransform::MinRange => x,
        };
        y.is_finite().then_some(y)
    }
}

/// FuxiCTR's buckets of counts (model_zoo/DeepFM, `convert_to_bucket`), in f64: a whole number.
pub fn log_sq_bucket(x: f64) -> f64 {
    if x > 2.0 {
        let ln = libm::log(x);
        (ln * ln).floor()
    } else {
        // No negative zero.
        x.trunc() + 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn transforms_and_their_domains() {
        let of = |t| Dense::new(t).unwrap();
        let facebook = of(DenseTransform::Log1pClamp0);
        assert_eq!(facebook.apply(-5.0), Some(0.0));
        assert_eq!(facebook.apply(f64::NAN), Some(0.0));
        assert_eq!(facebook.apply(f64::INFINITY), None);
        assert_eq!(of(DenseTransform::LogPlus2).apply(-2.0), None);
        assert_eq!(of(DenseTransform::LogPlus3).apply(-2.0), Some(0.0));
        let buckets = [-1.5, -1.0, 0.0, 2.0, 3.0, 100.0, 65535.0]
            .map(|x| of(DenseTransform::LogSqBucket).apply(x).unwrap());
        assert_eq!(buckets, [-1.0, -1.0, 0.0, 2.0, 1.0, 21.0, 122.0]);
        assert_eq!(of(DenseTransform::Raw).apply(-0.5), Some(-0.5));
        assert_eq!(of(DenseTransform::Raw).apply(1e300), None);
        assert!(
            Dense::new(DenseTransform::MinMax).is_none()
                && Dense::new(DenseTransform::Standard).is_none()
        );
    }

    proptest! {
        #[test]
        fn the_table_changes_no_bit(x in prop_oneof![(-9i32..9000).prop_map(f64::from), -9.0..5000.0, any::<f64>()]) {
            use DenseTransform::{Log1pClamp0, LogPlus2, LogPlus3, LogSqBucket, Raw};
            for t in [Raw, Log1pClamp0, LogPlus2, LogPlus3, LogSqBucket] {
                let dense = Dense::new(t).unwrap();
                let plain = dense.compute(if x.is_nan() { 0.0 } else { x });
                prop_assert_eq!(dense.apply(x).map(f32::to_bits), plain.map(f32::to_bits));
                prop_assert_eq!(dense.apply_whole(x as i32).map(f32::to_bits), dense.apply(f64::from(x as i32)).map(f32::to_bits));
            }
        }
    }
}
