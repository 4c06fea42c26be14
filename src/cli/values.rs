//! Options whose values are those of an enumeration of the library's.

/// Implements [`clap::ValueEnum`]: each value with its name and its line of help.
macro_rules! values {
    ($($of:ident { $($value:ident = $name:literal: $help:literal),+ $(,)? })+) => {
        $(impl clap::ValueEnum for $of {
            fn value_variants<'a>() -> &'a [Self] {
                &[$($of::$value),+]
            }

            fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
                Some(match self {
                    $($of::$value => clap::builder::PossibleValue::new($name).help($help)),+
                })
            }
        })+
    };
}
