//! Which column is the label, which are dense, categorical or nothing.

use super::{Files, Wishes};
use crate::data::survey::{Column, Holds, Survey};

/// Names of labels, in the order in which they are looked for; in small letters.
const LABELS: [&str; 14] = [
    "label",
    "clicked",
    "click",
    "is_click",
    "y",
    "target",
    "class",
    "converted",
    "conversion",
    "is_conversion",
    "outcome",
    "response",
    "purchased",
    "buy",
];
/// Words that mean yes, in small letters.
const YES: [&str; 9] = ["1", "yes", "true", "y", "t", "positive", "click", "clicked", "good"];
/// Whole numbers of no more different values than this are categories.
const CATEGORIES: u64 = 20;
/// A text of which more than this share of the rows have one of their own says nothing of others.
const OWN: f64 = 0.9;
/// Rows from which on that can be judged.
const JUDGED: u64 = 100;

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What is to be learnt.
    Label,
    /// A number.
    Dense,
    /// A category.
    Categorical,
    /// A date, of which features are made.
    Date,
    /// Nothing.
    Ignored,
}

/// The label.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Its column.
    pub column: usize,
    /// Values that mean 1, if they are not the numbers 0 and 1.
    pub positive: Vec<String>,
    /// Share of rows with label 1, where all values of the label are known.
    pub share: Option<f64>,
    /// Why this column, and why these values; sentences.
    pub why: Vec<String>,
}

/// What each column is for, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Roles {
    /// The label.
    pub label: Label,
    /// Role of each column with the reason.
    pub columns: Vec<(Role, String)>,
}

impl Roles {
    /// The columns that have `role`, with what is said of them.
    pub fn of<'a>(&'a self, survey: &'a Survey, role: Role) -> Vec<(&'a Column, &'a str)> {
        let columns = survey.columns.iter().zip(&self.columns);
        columns.filter(|(_, (r, _))| *r == role).map(|(c, (_, why))| (c, why.as_str())).collect()
    }

    /// Guesses what `wishes` leave open.
    ///
    /// # Errors
    /// If a column that is named is not there or cannot be what it is to be, or no column, or more
    /// than one, looks like a label. One sentence that says what to name.
    pub fn guess(survey: &Survey, files: Files, wishes: &Wishes) -> Result<Roles, String> {
        let find = |name: &String| {
            survey.columns.iter().position(|c| c.name == *name).ok_or_else(|| {
                format!("there is no column {name:?}; the columns are {}", names(survey, |_| true))
            })
        };
        let all = |names: &[String]| names.iter().map(find).collect::<Result<Vec<_>, _>>();
        let lists = [
            (Role::Dense, all(&wishes.dense)?),
            (Role::Categorical, all(&wishes.categorical)?),
            (Role::Date, all(&wishes.dates)?),
            (Role::Ignored, all(&wishes.ignore)?),
        ];
        let named = |i: usize| lists.iter().find(|(_, list)| list.contains(&i)).map(|(r, _)| *r);
        let (column, why) = match &wishes.label {
            Some(name) => (find(name)?, Vec::new()),
            None => label(survey, &|i| named(i).is_some())?,
        };
        if let Some(role) = named(column) {
            let name = &survey.columns[column].name;
            return Err(format!("column {name:?} is the label and cannot be {} too", word(role)));
        }
        let label = classes(&survey.columns[column], column, survey.rows, wishes, why)?;
        let mut columns = Vec::new();
        for (i, c) in survey.columns.iter().enumerate() {
            columns.push(match named(i) {
                _ if i == column => (Role::Label, String::new()),
                Some(role) => {
                    can_be(c, role, files)?;
                    (role, says(c, survey.rows, role))
                }
                None => guess(c, survey.rows, files),
            });
        }
        let roles = Roles { label, columns };
        let features =
            [Role::Dense, Role::Categorical, Role::Date].map(|role| roles.of(survey, role).len());
        match features {
            [0, 0, 0] => Err("no column is left to learn from but the label".to_owned()),
            _ => Ok(roles),
        }
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Label => "the label",
        Role::Dense => "dense",
        Role::Categorical => "categorical",
        Role::Date => "a date",
        Role::Ignored => "left out",
    }
}

fn names(survey: &Survey, which: impl Fn(&Column) -> bool) -> String {
    let names = survey.columns.iter().filter(|c| which(c)).take(50);
    names.map(|c| format!("{:?}", c.name)).collect::<Vec<_>>().join(", ")
}

/// The column that looks like a label, and why; `taken` says which have been named as something else.
fn label(survey: &Survey, taken: &dyn Fn(usize) -> bool) -> Result<(usize, Vec<String>), String> {
    let candidate = |i: usize, c: &Column| !taken(i) && two_classes(c);
    let by_name = LABELS.iter().find_map(|label| {
        survey
            .columns
            .iter()
            .enumerate()
            .position(|(i, c)| c.name.trim().eq_ignore_ascii_case(label) && candidate(i, c))
    });
    if let Some(i) = by_name {
        return Ok((i, vec!["Its name is a label's, and it has two values.".to_owned()]));
    }
    let candidates: Vec<usize> =
        (0..survey.columns.len()).filter(|&i| candidate(i, &survey.columns[i])).collect();
    let numbers = |i: &usize| zero_and_one(&survey.columns[*i]);
    let binary: Vec<usize> = candidates.iter().copied().filter(numbers).collect();
    let last = survey.columns.len().saturating_sub(1);
    match (&candidates[..], &binary[..]) {
        ([one], _) => Ok((*one, vec!["No other column has two values.".to_owned()])),
        (_, [one]) => Ok((*one, vec!["No other column has the values 0 and 1.".to_owned()])),
        ([], _) => Err(format!(
            "no column looks like a label, which has two values in all rows; name it with --label NAME, one of {}",
            names(survey, |_| true)
        )),
        (_, all) if all.contains(&last) || (all.is_empty() && candidates.contains(&last)) => {
            Ok((last, vec!["It is the last one, and has two values.".to_owned()]))
        }
        (_, all) if all.contains(&0) || (all.is_empty() && candidates.contains(&0)) => {
            Ok((0, vec!["It is the first one, and has two values.".to_owned()]))
        }
        _ => {
            let among = |c: &Column| candidates.iter().any(|&i| survey.columns[i].name == c.name);
            Err(format!(
                "more than one column may be the label; name it with --label NAME, one of {}",
                names(survey, among)
            ))
        }
    }
}

fn zero_and_one(c: &Column) -> bool {
    c.holds == Holds::Whole && c.range == Some((0.0, 1.0)) && c.distinct == 2
}

/// Whether a column has two values, in all rows.
fn two_classes(c: &Column) -> bool {
    let two = c.missing == 0 && c.distinct == 2 && c.few.is_some();
    two && c.no_feature.is_none() && c.holds != Holds::Dates
}

/// Which values of the label mean 1.
fn classes(
    c: &Column,
    column: usize,
    rows: u64,
    wishes: &Wishes,
    mut why: Vec<String>,
) -> Result<Label, String> {
    let name = &c.name;
    let values = c.few.as_deref().unwrap_or_default();
    let label = |positive: Vec<String>, why| {
        let ones = |(value, _): &&(String, u64)| match positive.is_empty() {
            true => value.parse() == Ok(1.0) || value.eq_ignore_ascii_case("true"),
            false => positive.contains(value),
        };
        let ones: u64 = values.iter().filter(ones).map(|(_, n)| n).sum();
        let share = c.few.is_some().then_some(ones as f64 / rows.max(1) as f64);
        Ok(Label { column, share, positive, why })
    };
    if c.missing == rows || c.distinct < 2 {
        return Err(format!(
            "the label, column {name:?}, has one value only; there is nothing to learn"
        ));
    }
    if c.missing > 0 {
        let why = format!(
            "the label, column {name:?}, is missing in {} of {rows} rows; remove these rows, or name another label with --label NAME",
            c.missing
        );
        return Err(why);
    }
    if wishes.positive.is_empty() && zero_and_one(c) {
        return label(Vec::new(), why);
    }
    if !wishes.positive.is_empty() {
        let there =
            |v: &&String| !values.is_empty() && !values.iter().any(|(value, _)| value == *v);
        if let Some(none) = wishes.positive.iter().find(there) {
            return Err(format!(
                "--positive {none}: the label, column {name:?}, never has this value; it has {}",
                shown(values)
            ));
        }
        return label(wishes.positive.clone(), why);
    }
    let [first, second] = values else {
        return Err(format!(
            "the label, column {name:?}, has {} values, not two{}; name those that mean 1 with --positive VALUES, or another label with --label NAME",
            c.distinct,
            if values.is_empty() { String::new() } else { format!(" ({})", shown(values)) }
        ));
    };
    let yes = |value: &str| YES.iter().position(|word| value.eq_ignore_ascii_case(word));
    let (one, reason) = match (yes(&first.0), yes(&second.0)) {
        (Some(a), Some(b)) if a != b => (if a < b { first } else { second }, "it reads like a yes"),
        (Some(_), None) => (first, "it reads like a yes"),
        (None, Some(_)) => (second, "it reads like a yes"),
        _ => match (first.0.parse::<f64>(), second.0.parse::<f64>()) {
            (Ok(a), Ok(b)) => (if a > b { first } else { second }, "it is the larger one"),
            _ => (if first.1 <= second.1 { first } else { second }, "it is the rarer one"),
        },
    };
    why.push(format!("Of {} the named one means 1: {reason}.", shown(values)));
    label(vec![one.0.clone()], why)
}

fn shown(values: &[(String, u64)]) -> String {
    values.iter().map(|(v, n)| format!("{v:?} ({n} rows)")).collect::<Vec<_>>().join(" and ")
}

/// Refuses a role that a column cannot have.
fn can_be(c: &Column, role: Role, files: Files) -> Result<(), String> {
    let numbers = matches!(c.holds, Holds::Whole | Holds::Fractions);
    let ids = match files {
        Files::Text { .. } | Files::Described(_) => true,
        Files::Parquet => {
            matches!(c.holds, Holds::Whole | Holds::Hashes | Holds::Lists | Holds::Text)
        }
    };
    match role {
        Role::Dense if !numbers => {
            Err(format!("column {:?} cannot be dense: not all of its values are numbers", c.name))
        }
        Role::Date if c.holds != Holds::Dates && c.holds != Holds::Whole => {
            Err(format!("column {:?} cannot be a date: not all of its values are dates", c.name))
        }
        Role::Categorical if !ids => Err(format!(
            "column {:?} cannot be categorical: categories of parquet files are whole numbers, lists of them, or text",
            c.name
        )),
        _ => Ok(()),
    }
}

/// The role of a column of which nothing was said.
fn guess(c: &Column, rows: u64, files: Files) -> (Role, String) {
    let ignored = |why: &str| (Role::Ignored, why.to_owned());
    if let Some(why) = c.no_feature {
        return ignored(why);
    }
    let parquet = files == Files::Parquet;
    let own = c.distinct as f64 > OWN * (rows - c.missing) as f64 && rows >= JUDGED;
    let role = match c.holds {
        Holds::Nothing => return ignored("it has no values"),
        Holds::Other => return ignored("a model cannot be trained on values of its type"),
        _ if c.distinct == 1 && c.missing == 0 && c.holds != Holds::Lists => {
            return ignored("it has one value only");
        }
        Holds::Dates => Role::Date,
        Holds::Text if own => return ignored("nearly each row has a value of its own"),
        Holds::Text | Holds::Hashes | Holds::Lists => Role::Categorical,
        Holds::Fractions => Role::Dense,
        // As in Criteo's logs.
        Holds::Whole if numbered(&c.name, 'I') => Role::Dense,
        Holds::Whole => {
            // Negative numbers of parquet files are no ids.
            let negative = parquet && c.range.is_some_and(|(min, _)| min < 0.0);
            let ids = numbered(&c.name, 'C') || names_ids(&c.name) || c.distinct <= CATEGORIES;
            match ids && !negative {
                true if own && names_ids(&c.name) => {
                    return ignored("nearly each row has an id of its own");
                }
                true => Role::Categorical,
                false => Role::Dense,
            }
        }
    };
    (role, says(c, rows, role))
}

/// Whether `name` is `letter` and a number.
fn numbered(name: &str, letter: char) -> bool {
    let number = name.strip_prefix(letter);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a column is called like one of ids.
fn names_ids(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    let words = ["id", "ids", "code", "zip", "zipcode", "hash", "category", "cat", "type"];
    let last = name.rsplit(['_', '-', ' ', '.']).next().unwrap_or_default();
    words.contains(&last) || (name.len() > 2 && name.ends_with("id") && name.contains('_'))
}

/// What a column holds, in a few words.
fn says(c: &Column, rows: u64, role: Role) -> String {
    let values = |n: u64| if n == 1 { "1 value".to_owned() } else { format!("{n} values") };
    let mut words = match (c.holds, role) {
        (Holds::Text, _) => format!("text, {}", values(c.distinct)),
        (Holds::Dates, _) => format!("dates, {}", values(c.distinct)),
        (Holds::Hashes, _) => "hashes of 64 bits".to_owned(),
        (Holds::Lists, _) => format!("lists of ids, {}", values(c.distinct)),
        (Holds::Whole, _) => format!("whole numbers, {}", values(c.distinct)),
        _ => "numbers".to_owned(),
    };
    if let (Some((min, max)), false) =
        (c.range, matches!(c.holds, Holds::Text | Holds::Lists | Holds::Dates))
    {
        words += &format!(", {} to {}", brief(min), brief(max));
    }
    if c.missing > 0 {
        let share = 100.0 * c.missing as f64 / rows.max(1) as f64;
        words += &match share < 0.1 {
            true => format!(", {} missing", c.missing),
            false => format!(", {share:.1}% missing"),
        };
    }
    words
}

/// A number in a few digits.
pub(super) fn brief(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        a if x.fract() == 0.0 && a < 1e15 => format!("{x}"),
        a if (1e-3..1e6).contains(&a) => {
            let text = format!("{x:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{x:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Files = Files::Text { delimiter: ',', header: true };

    fn column(name: &str, holds: Holds, distinct: u64, few: &[(&str, u64)]) -> Column {
        let few: Vec<(String, u64)> = few.iter().map(|(v, n)| ((*v).to_owned(), *n)).collect();
        let range = matches!(holds, Holds::Whole | Holds::Fractions).then(|| {
            (if few.is_empty() { 5.0 } else { 0.0 }, if distinct == 2 { 1.0 } else { 900.0 })
        });
        Column {
            name: name.into(),
            holds,
            missing: 0,
            distinct,
            range,
            mean: 0.5,
            few: (!few.is_empty()).then_some(few),
            clock: false,
            no_feature: None,
        }
    }

    fn binary(name: &str) -> Column {
        column(name, Holds::Whole, 2, &[("0", 150), ("1", 50)])
    }

    fn survey(columns: Vec<Column>) -> Survey {
        Survey { rows: 200, columns }
    }

    fn roles(columns: Vec<Column>, wishes: &Wishes) -> Result<(usize, Vec<Role>), String> {
        let roles = Roles::guess(&survey(columns), TEXT, wishes)?;
        Ok((roles.label.column, roles.columns.iter().map(|(r, _)| *r).collect()))
    }

    #[test]
    fn labels_are_found_by_name_by_values_or_by_place() {
        let found = |columns: Vec<Column>| roles(columns, &Wishes::default()).map(|r| r.0);
        let age = || column("age", Holds::Whole, 70, &[]);
        assert_eq!(found(vec![age(), binary("Click"), binary("b")]), Ok(1));
        assert_eq!(found(vec![age(), binary("a"), column("x", Holds::Text, 9, &[])]), Ok(1));
        assert_eq!(found(vec![binary("a"), age(), binary("b")]), Ok(2));
        assert_eq!(found(vec![binary("a"), binary("b"), age()]), Ok(0));
        let sex = column("sex", Holds::Text, 2, &[("m", 90), ("f", 110)]);
        assert_eq!(found(vec![age(), sex.clone(), binary("b"), age()]), Ok(2));
        let two = found(vec![age(), binary("a"), binary("b"), age()]).unwrap_err();
        assert_eq!(
            two,
            "more than one column may be the label; name it with --label NAME, one of \"a\", \"b\""
        );
        let none = found(vec![age(), column("x", Holds::Fractions, 99, &[])]).unwrap_err();
        assert!(none.contains("no column looks like a label") && none.ends_with("\"age\", \"x\""));
        // A label has a value in each row.
        let gaps = Column { missing: 1, ..binary("label") };
        assert!(found(vec![age(), gaps.clone()]).unwrap_err().contains("no column looks like"));
        let wishes = Wishes { label: Some("label".into()), ..Wishes::default() };
        let error = roles(vec![age(), gaps], &wishes).unwrap_err();
        assert!(error.contains("is missing in 1 of 200 rows"), "{error}");
    }

    #[test]
    fn values_that_mean_one_are_chosen_and_said() {
        let of = |values: &[(&str, u64)], positive: &[&str]| {
            let holds = if values[0].0.parse::<f64>().is_ok() { Holds::Whole } else { Holds::Text };
            let mut label = column("label", holds, values.len() as u64, values);
            label.range = None;
            let wishes = Wishes {
                label: Some("label".into()),
                positive: positive.iter().map(|p| (*p).to_owned()).collect(),
                ..Wishes::default()
            };
            let found = Roles::guess(&survey(vec![label, binary("a")]), TEXT, &wishes);
            found.map(|r| (r.label.positive.concat(), r.label.share.unwrap()))
        };
        assert_eq!(of(&[("no", 150), ("yes", 50)], &[]), Ok(("yes".into(), 0.25)));
        assert_eq!(of(&[("2", 50), ("1", 150)], &[]), Ok(("1".into(), 0.75)));
        assert_eq!(of(&[("-1", 150), ("3", 50)], &[]), Ok(("3".into(), 0.25)));
        assert_eq!(of(&[("<=50K", 150), (">50K", 50)], &[]), Ok((">50K".into(), 0.25)));
        assert_eq!(of(&[("a", 100), ("b", 60), ("c", 40)], &["b", "c"]), Ok(("bc".into(), 0.5)));
        let three = of(&[("a", 100), ("b", 60), ("c", 40)], &[]).unwrap_err();
        assert!(
            three.contains("has 3 values, not two (\"a\" (100 rows) and")
                && three.contains("--positive")
        );
        let none = of(&[("a", 100), ("b", 100)], &["x"]).unwrap_err();
        assert!(
            none.starts_with("--positive x: the label, column \"label\", never has this value")
        );
    }

    #[test]
    fn columns_have_the_roles_that_they_look_like() {
        use Role::{Categorical, Dense, Ignored};
        let role = |c: Column| {
            roles(vec![c, binary("z"), binary("label")], &Wishes::default()).unwrap().1[0]
        };
        let own = |holds| column("x", holds, 199, &[]);
        assert_eq!(role(column("x", Holds::Whole, 20, &[])), Categorical);
        assert_eq!(role(column("x", Holds::Whole, 21, &[])), Dense);
        assert_eq!(role(column("I3", Holds::Whole, 3, &[])), Dense);
        assert_eq!(role(column("user_id", Holds::Whole, 99, &[])), Categorical);
        assert_eq!(role(column("user_id", Holds::Whole, 199, &[])), Ignored);
        assert_eq!(role(column("paid", Holds::Whole, 99, &[])), Dense);
        assert_eq!((role(own(Holds::Fractions)), role(own(Holds::Whole))), (Dense, Dense));
        assert_eq!(role(own(Holds::Text)), Ignored);
        assert_eq!(role(column("x", Holds::Text, 99, &[])), Categorical);
        assert_eq!(role(column("x", Holds::Text, 1, &[("a", 200)])), Ignored);
        assert_eq!(role(Column { missing: 1, ..column("x", Holds::Text, 1, &[]) }), Categorical);
        assert_eq!(role(column("x", Holds::Nothing, 0, &[])), Ignored);
        assert_eq!(role(Column { no_feature: Some("index"), ..own(Holds::Whole) }), Ignored);
        // Whoever names a column is believed, where that can be.
        let wishes = Wishes {
            dense: vec!["few".into()],
            categorical: vec!["x".into()],
            ignore: vec!["z".into()],
            ..Wishes::default()
        };
        let few = column("few", Holds::Whole, 3, &[]);
        let columns = vec![few, own(Holds::Fractions), binary("z"), binary("label")];
        assert_eq!(roles(columns, &wishes).unwrap().1, [Dense, Categorical, Ignored, Role::Label]);
        let text = vec![
            column("few", Holds::Text, 3, &[]),
            own(Holds::Whole),
            binary("z"),
            binary("label"),
        ];
        assert!(roles(text, &wishes).unwrap_err().contains("\"few\" cannot be dense"));
        let alone = Wishes { ignore: vec!["z".into()], ..Wishes::default() };
        let error = roles(vec![binary("z"), binary("label")], &alone).unwrap_err();
        assert_eq!(error, "no column is left to learn from but the label");
        let missing = Wishes { label: Some("w".into()), ..Wishes::default() };
        let error = roles(vec![binary("z"), binary("label")], &missing).unwrap_err();
        assert_eq!(error, "there is no column \"w\"; the columns are \"z\", \"label\"");
    }

    #[test]
    fn parquet_has_text_dates_lists_and_no_negative_ids() {
        let guess = |columns| Roles::guess(&survey(columns), Files::Parquet, &Wishes::default());
        let text = column("t", Holds::Text, 2, &[("a", 100), ("b", 100)]);
        let minus = Column { range: Some((-1.0, 5.0)), ..column("m", Holds::Whole, 7, &[]) };
        let lists = column("l", Holds::Lists, 1, &[]);
        let dates = column("d", Holds::Dates, 150, &[]);
        let found = guess(vec![text.clone(), minus, lists, dates, binary("label")]).unwrap();
        let roles: Vec<Role> = found.columns.iter().map(|(r, _)| *r).collect();
        use Role::{Categorical, Date, Dense};
        assert_eq!(roles, [Categorical, Dense, Categorical, Date, Role::Label]);
        let found = guess(vec![text, column("x", Holds::Whole, 9, &[])]).unwrap();
        assert_eq!((found.label.column, found.label.positive), (0, vec!["a".to_owned()]));
    }

    #[test]
    fn numbers_are_brief() {
        let said = [0.0, 3.0, -2.5, 1e-9, 123_456.789, 1e15, 4_294_967_295.0].map(brief);
        assert_eq!(said, ["0", "3", "-2.5", "1.00e-9", "123456.789", "1.00e15", "4294967295"]);
    }
}
