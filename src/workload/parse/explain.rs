//! The resolved workload for people: each value with where it came from.

use super::{Origin, Resolved, written};

impl Resolved {
    /// The canonical form with the origin of each value as a comment, the comments aligned.
    pub fn explain(&self) -> String {
        let sections = written(&self.workload);
        let lines = || {
            sections
                .iter()
                .flat_map(|(_, keys)| keys)
                .map(|(key, value)| format!("{key} = {value}").chars().count())
        };
        // A few long lists must not push every comment off the screen.
        let column = lines().filter(|&n| n <= 60).max().unwrap_or(0);
        let mut out = String::new();
        for (i, (section, keys)) in sections.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            out += &format!("[{section}]\n");
            for (key, value) in keys {
                let origin = match self.origin.get(&format!("{section}.{key}")) {
                    Some(Origin::File { path, line }) => format!("{}:{line}", path.display()),
                    Some(Origin::Set) => "--set".to_owned(),
                    Some(Origin::Otherwise) => "data.otherwise".to_owned(),
                    Some(Origin::FitMemory) => "data.fit_memory".to_owned(),
                    Some(Origin::AutoStore) => "embedding.store = \"auto\"".to_owned(),
                    Some(Origin::Default) | None => "default".to_owned(),
                };
                out += &format!("{:<column$}  # {origin}\n", format!("{key} = {value}"));
            }
        }
        out
    }
}
