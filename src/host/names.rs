//! Names of files in the order in which people number them.

/// A key that sorts `result_10` behind `result_9`: text and numbers in turns.
pub fn natural(name: &str) -> Vec<(String, Option<u128>)> {
    let mut parts: Vec<(String, Option<u128>)> = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (before, after) = rest.split_at(text);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(digits);
        parts.push((before.to_owned(), number.parse().ok()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names = ["b", "a10", "a9", "a1b2", "a", "a1b10", "2"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["2", "a", "a1b2", "a1b10", "a9", "a10", "b"]);
    }
}
