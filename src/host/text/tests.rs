use super::*;
use crate::backend::cpu::testing::isas;
use proptest::prelude::*;

fn obvious(text: &[u8]) -> Separators {
    let at: Vec<u32> =
        (0..text.len() as u32).filter(|&i| matches!(text[i as usize], b'\t' | b'\n')).collect();
    let lines = (0..at.len() as u32).filter(|&k| text[at[k as usize] as usize] == b'\n').collect();
    Separators { at, lines }
}

proptest! {
    #[test]
    fn separators_are_those_of_a_plain_loop(text in prop::collection::vec(prop_oneof![Just(b'\t'), Just(b'\n'), any::<u8>()], 0..700)) {
        let expected = obvious(&text);
        for isa in isas() {
            let mut found = Separators { at: vec![7; 3], lines: vec![9] };
            found.find(isa, &text);
            prop_assert_eq!(&found, &expected, "{}", isa.name());
        }
    }

    /// Digits of all lengths between any bytes, some of them spoilt.
    #[test]
    fn fields_are_read_as_the_standard_library_reads_them(
        fields in prop::collection::vec(("[0-9a-fA-F]{0,8}", "[0-9]{0,8}"), GROUP),
        junk in any::<u8>(),
        spoilt in prop::option::of((0..GROUP, 0usize..8, any::<u8>())),
    ) {
        for base in [Base::Hexadecimal, Base::Decimal] {
            let mut texts: Vec<Vec<u8>> = fields
                .iter()
                .map(|(hex, dec)| if base == Base::Hexadecimal { hex.clone() } else { dec.clone() }.into_bytes())
                .collect();
            if let Some((which, at, byte)) = spoilt && at < texts[which].len() {
                texts[which][at] = byte;
            }
            let radix = if base == Base::Hexadecimal { 16 } else { 10 };
            let expected: Option<Vec<u32>> = texts.iter().map(|t| match &t[..] {
                [] => Some(0),
                [b'+', ..] => None,
                t => std::str::from_utf8(t).ok().and_then(|t| u32::from_str_radix(t, radix).ok()),
            }).collect();
            let mut text = vec![junk; LONGEST];
            let (mut ends, mut lens) = ([[0; GROUP]; 2], [[0; GROUP]; 2]);
            for (i, field) in texts.iter().enumerate() {
                text.extend_from_slice(field);
                (ends[0][i], lens[0][i]) = (text.len() as u32, field.len() as u32);
                text.push(junk);
            }
            (ends[1], lens[1]) = (ends[0], lens[0]);
            for isa in isas() {
                let mut out = [[77; GROUP]; 2];
                let good = read(isa, base, &text, &ends, &lens, &mut out);
                prop_assert_eq!(good, expected.is_some(), "{} {:?}", isa.name(), &texts);
                if let Some(expected) = &expected {
                    prop_assert_eq!(out[0].as_slice(), expected.as_slice(), "{}", isa.name());
                    prop_assert_eq!(out[0], out[1]);
                }
            }
        }
    }
}

#[test]
fn fields_outside_of_the_text_are_refused() {
    let good = |end: u32, len: u32| {
        let text = [b'1'; 20];
        std::panic::catch_unwind(move || {
            read(
                Isa::best(),
                Base::Decimal,
                &text,
                &[[end; GROUP]],
                &[[len; GROUP]],
                &mut [[0; GROUP]],
            )
        })
    };
    assert!(good(20, 8).is_ok_and(|g| g) && good(8, 0).is_ok_and(|g| g));
    assert!(good(21, 1).is_err() && good(7, 1).is_err() && good(20, 9).is_err());
}
