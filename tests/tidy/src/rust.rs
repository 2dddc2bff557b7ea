//! Rules on Rust files: how long they and their functions may be, and how a module begins.

use crate::File;

/// Most lines of a file.
pub const FILE_LINES_MAX: usize = 400;
/// Most lines of a function.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Files and functions that are too long.
pub fn lengths(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| file.is_product()) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!("{}:{lines}: a file of {lines} lines; split it by its nouns", file.path));
        }
        for function in functions(&file.text).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let Function { name, line, lines } = function;
            breaches.push(format!("{}:{line}: fn {name} has {lines} lines; split it by its stages", file.path));
        }
    }
    breaches
}

/// Modules that do not say first what they are.
pub fn openings(files: &[File]) -> Vec<String> {
    let beside = |file: &&File| file.name() != "tests.rs" && !file.name().ends_with("_tests.rs");
    let modules = files.iter().filter(|file| file.is_rust()).filter(beside);
    let silent = modules.filter(|file| !file.text.starts_with("//!") && !file.text.starts_with("#!["));
    silent
        .map(|file| format!("{}:1: begins without `//!`: say which noun it defines and what it keeps", file.path))
        .collect()
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where it begins, from 1.
    pub line: usize,
    /// How many lines it has, from `fn` to its closing brace.
    pub lines: usize,
}

/// The functions of a file, nested ones too.
pub fn functions(text: &str) -> Vec<Function> {
    let code = blank(text);
    let mut functions = Vec::new();
    // Functions whose body has begun, each with the depth outside it.
    let mut open: Vec<(Function, usize)> = Vec::new();
    let mut begun: Option<Function> = None;
    // A `;` ends a declaration only outside brackets.
    let (mut line, mut depth, mut brackets) = (1usize, 0usize, 0usize);
    let mut rest = code.as_str();
    while let Some(character) = rest.chars().next() {
        let word = word(rest);
        match character {
            _ if word == "fn" => {
                let name = self::word(rest[word.len()..].trim_start());
                begun = (!name.is_empty()).then(|| Function { name: name.into(), line, lines: 0 });
                brackets = 0;
            }
            '\n' => line += 1,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if brackets == 0 => begun = None,
            '{' => {
                open.extend(begun.take().map(|function| (function, depth)));
                depth += 1;
            }
            '}' => {
                depth = depth.saturating_sub(1);
                if open.last().is_some_and(|(_, outside)| *outside == depth)
                    && let Some((function, _)) = open.pop()
                {
                    functions.push(Function { lines: line + 1 - function.line, ..function });
                }
            }
            _ => {}
        }
        rest = &rest[word.len().max(character.len_utf8())..];
    }
    functions
}

/// The identifier that a text begins with, or nothing.
fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// The same text with comments and literals blanked, line for line.
pub fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let taken = match literal(rest) {
            0 => {
                // An identifier is taken whole, so that its end is never mistaken for the prefix of a string.
                let taken = word(rest).len().max(first.len_utf8());
                code.push_str(&rest[..taken]);
                taken
            }
            taken => {
                code.extend(rest[..taken].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                taken
            }
        };
        rest = &rest[taken..];
    }
    code
}

/// How many bytes a comment or literal takes at the beginning of a text; 0 where there is none.
fn literal(text: &str) -> usize {
    let end = |from: usize, mark: &str| text[from..].find(mark).map_or(text.len(), |at| from + at + mark.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return end(2, "*/");
    }
    let prefix = text.trim_start_matches(['b', 'c']);
    let prefix_len = if text.len() - prefix.len() <= 1 { text.len() - prefix.len() } else { 0 };
    let text_from = &text[prefix_len..];
    if let Some(raw) = text_from.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return end(prefix_len + 1 + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    if text_from.starts_with('"') {
        return quoted(text, prefix_len + 1, '"');
    }
    if let Some(inside) = text_from.strip_prefix('\'') {
        // A lifetime has no closing quote after its first character.
        let mut inside = inside.chars();
        let first = inside.next();
        if first == Some('\\') || inside.next() == Some('\'') {
            return quoted(text, prefix_len + 1, '\'');
        }
    }
    0
}

fn quoted(text: &str, from: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text[from..].char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return from + at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_whatever_their_literals_hold() {
        let text = r##"
fn one() {
    let brace = '{'; let text = "}{ \" fn no() {"; let raw = r#"{"#;
    // }
}
trait Noun { fn declared(&self, list: [u8; 4]); fn given(&self) {
        let inner = || { 1 };
    }
}
const fn two<'a>(x: &'a str) -> &'a str { x }
"##;
        let found: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        let expected = [("one", 2, 4), ("given", 6, 3), ("two", 10, 1)];
        assert_eq!(found, expected.map(|(name, line, lines)| (name.to_owned(), line, lines)));
    }
}
