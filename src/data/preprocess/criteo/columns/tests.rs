use super::*;
use proptest::prelude::*;

fn isas() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.available())
}

/// What the plain reader makes of each line.
fn plain(text: &[u8], on_error: OnError) -> Result<Columns, BadLine> {
    let mut columns = Columns::default();
    let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
    if lines.last().is_some_and(|l| l.is_empty()) {
        lines.pop();
    }
    lines.into_iter().try_for_each(|line| columns.push_line(line, on_error))?;
    Ok(columns)
}

fn check(text: &[u8]) -> Result<(), TestCaseError> {
    for on_error in [OnError::Fail, OnError::Skip] {
        let expected = plain(text, on_error);
        for isa in isas() {
            let mut columns = Columns { labels: vec![3; 5], lines: 7, ..Columns::default() };
            let done = columns.fill(text, isa, on_error, &mut Separators::default());
            match (&expected, done) {
                (Ok(expected), Ok(())) => {
                    prop_assert!(
                        columns == *expected,
                        "{} {:?}",
                        isa.name(),
                        String::from_utf8_lossy(text)
                    )
                }
                (Err(expected), Err(got)) => prop_assert_eq!(&got, expected, "{}", isa.name()),
                (expected, got) => {
                    prop_assert!(false, "{} {:?} {:?}", isa.name(), expected.is_ok(), got)
                }
            }
        }
    }
    Ok(())
}

/// Fields as they occur, seldom ones often enough.
fn integer() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (-3i32..100_000).prop_map(|x| x.to_string()),
        2 => Just(String::new()),
        1 => any::<i32>().prop_map(|x| x.to_string()),
        1 => (-100_000_000i32..100_000_000).prop_map(|x| x.to_string()),
        1 => "-?0{0,8}[0-9]{1,3}",
    ]
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => any::<u32>().prop_map(|x| format!("{x:08x}")),
        2 => Just(String::new()),
        1 => "[0-9a-fA-F]{1,8}",
    ]
}

fn line() -> impl Strategy<Value = String> {
    let fields =
        (0u8..2, prop::collection::vec(integer(), DENSE), prop::collection::vec(id(), TABLES));
    fields.prop_map(|(label, dense, ids)| [vec![label.to_string()], dense, ids].concat().join("\t"))
}

/// What may be done to a text: a byte changed, put in or taken out, at a place; or lines end as on
/// Windows.
#[derive(Debug, Clone)]
enum Spoil {
    Change(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let byte =
        prop_oneof![Just(b'\t'), Just(b'\n'), Just(b'\r'), Just(b'-'), Just(b'g'), any::<u8>()]
            .boxed();
    prop_oneof![
        (any::<prop::sample::Index>(), byte.clone()).prop_map(|(at, b)| Spoil::Change(at, b)),
        (any::<prop::sample::Index>(), byte).prop_map(|(at, b)| Spoil::Insert(at, b)),
        any::<prop::sample::Index>().prop_map(Spoil::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn lines_are_read_as_one_by_one(
        lines in prop::collection::vec(line(), 0..40),
        windows: bool,
        whole: bool,
        spoils in prop::collection::vec(spoil(), 0..4),
    ) {
        let end = if windows { "\r\n" } else { "\n" };
        let mut text = lines.join(end).into_bytes();
        if whole && !lines.is_empty() {
            text.extend_from_slice(end.as_bytes());
        }
        check(&text)?;
        for spoil in spoils {
            match spoil {
                _ if text.is_empty() => {}
                Spoil::Change(at, b) => { let i = at.index(text.len()); text[i] = b; }
                Spoil::Insert(at, b) => { let i = at.index(text.len()); text.insert(i, b); }
                Spoil::Remove(at) => { text.remove(at.index(text.len())); }
            }
        }
        check(&text)?;
    }

    #[test]
    fn any_bytes_are_read_as_one_by_one(text in prop::collection::vec(prop_oneof![3 => Just(b'\t'), 1 => Just(b'\n'), 2 => Just(b'0'), 1 => any::<u8>()], 0..3000)) {
        check(&text)?;
    }
}

/// Groups of eight are taken at once, also those with signs, empty fields and carriage returns.
#[test]
fn usual_lines_take_the_fast_way() {
    let ids = vec!["68fd1e64"; TABLES].join("\t");
    let text = format!("1\t-2\t12345678\t-12345678\t{}\t{ids}\r\n", ["7", ""].repeat(5).join("\t"))
        .repeat(GROUP + 1);
    let mut separators = Separators::default();
    separators.find(Isa::Portable, text.as_bytes());
    // A text's first line is too near to its start.
    let places = regular(WIDTH, &separators.lines[1..], &separators.at).unwrap();
    assert!(Columns::default().push_group(
        text.as_bytes(),
        Isa::best(),
        text.len() / (GROUP + 1),
        places
    ));
}
