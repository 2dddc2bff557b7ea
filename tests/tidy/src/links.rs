//! Links of documents to files of this tree.

use std::path::Path;

use crate::File;

/// Links that lead nowhere.
pub fn broken(files: &[File], root: &Path) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let folder = root.join(&file.path);
        let folder = folder.parent().unwrap_or(root);
        let mut fenced = false;
        for (at, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            for target in targets(line).into_iter().filter(|_| !fenced) {
                let path = target.split('#').next().unwrap_or_default();
                if !path.is_empty() && !folder.join(path).exists() {
                    breaches.push(format!("{}:{}: links to {target}, which is not there", file.path, at + 1));
                }
            }
        }
    }
    breaches
}

/// The targets of a line's links that are files.
fn targets(line: &str) -> Vec<&str> {
    let links = line.match_indices("](").filter_map(|(at, mark)| {
        let rest = &line[at + mark.len()..];
        rest.split([')', ' ']).next()
    });
    links.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_files_count() {
        let line = "[a](x.md#part) and [b](https://example.org) and ![c](docs/d.svg \"title\") and [e](#here)";
        assert_eq!(targets(line), ["x.md#part", "docs/d.svg", "#here"]);
    }
}
