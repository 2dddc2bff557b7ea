//! Words that stand for something not done or not named.

use crate::File;

/// Endings of files that hold code.
const CODE: [&str; 10] = [".rs", ".toml", ".wit", ".py", ".js", ".ts", ".go", ".c", ".h", ".sh"];
/// Names that say nothing of what a module is.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "manager"];

/// Written apart, so that this file passes its own rule.
const UNDONE: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("dbg", "!("), concat!("unimplemented", "!(")];

/// Words that say that something is not done.
pub fn undone(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| CODE.iter().any(|ending| file.path.ends_with(ending))) {
        for (at, line) in file.text.lines().enumerate() {
            for word in UNDONE.iter().filter(|word| has_word(line, word)) {
                breaches.push(format!("{}:{}: {word}: do it, or leave it out", file.path, at + 1));
            }
        }
    }
    breaches
}

/// Modules and folders whose name is not a noun of this system.
pub fn empty_names(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let parts = file.path.trim_end_matches(".rs").split('/');
        for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
            breaches.push(format!("{}:1: {part} names nothing; name the noun", file.path));
        }
        for (at, line) in file.text.lines().enumerate() {
            let declared = line.trim().trim_start_matches("pub ").strip_prefix("mod ");
            let name = declared.map(|rest| rest.trim_end_matches([';', '{', ' ']));
            if let Some(name) = name.filter(|name| EMPTY_NAMES.contains(name)) {
                breaches.push(format!("{}:{}: mod {name} names nothing; name the noun", file.path, at + 1));
            }
        }
    }
    breaches
}

/// Whether a line has a word that no letter continues.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let continues = |next: Option<char>| next.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !continues(before) && (word.ends_with('(') || !continues(after))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaches_are_found_and_look_alikes_are_not() {
        let text = format!("{} later\nmethod_{}\nmod utils;\n{}x)", UNDONE[0], UNDONE[0], UNDONE[2]);
        let files = [File { path: "host/core/src/common/mod.rs".into(), text }];
        let found = undone(&files);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("host/core/src/common/mod.rs:1:") && found[1].contains("mod.rs:4:"));
        assert_eq!(empty_names(&files).len(), 2);
    }
}
