//! Import arrows: cli → api, aws → engine → core, and plugins → guest SDK. Nothing points back.

use crate::File;

/// Which crates of this workspace each crate may stand on.
const ARROWS: [(&str, &[&str]); 6] = [
    ("host/core", &[]),
    ("host/engine", &["pelton-core"]),
    ("host/aws", &["pelton-engine", "pelton-core"]),
    ("host/api", &["pelton-engine", "pelton-core"]),
    ("host/cli", &["pelton-api", "pelton-aws", "pelton-engine", "pelton-core"]),
    ("guest-sdk", &[]),
];
/// What plugins stand on.
const PLUGIN_ARROWS: &[&str] = &["pelton-task"];
/// All that the core may stand on from outside: nothing with IO, a clock, randomness or an executor.
const CORE_OUTSIDE: [&str; 6] = ["bytes", "crc32c", "md-5", "prost", "thiserror", "zstd"];

/// A dependency as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// On which line.
    pub line: usize,
    /// Whether only tests have it.
    pub dev: bool,
}

/// Dependencies that point the wrong way.
pub fn breaches(files: &[File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in files.iter().filter(|file| file.name() == "Cargo.toml" && file.path != "Cargo.toml") {
        let folder = file.path.trim_end_matches("/Cargo.toml");
        let found = ARROWS.iter().find(|(crate_folder, _)| folder.starts_with(crate_folder));
        let allowed = match found {
            Some((_, allowed)) => allowed,
            None if folder.starts_with("plugins/") => PLUGIN_ARROWS,
            None => continue,
        };
        for Dependency { name, line, dev } in dependencies(&file.text) {
            if name.starts_with("pelton") && !allowed.contains(&name.as_str()) {
                breaches
                    .push(format!("{}:{line}: {folder} must not stand on {name}; it may on {allowed:?}", file.path));
            }
            if folder == "host/core" && !dev && !CORE_OUTSIDE.contains(&name.as_str()) {
                breaches
                    .push(format!("{}:{line}: core must not stand on {name}; it may on {CORE_OUTSIDE:?}", file.path));
            }
        }
    }
    breaches
}

/// What a manifest depends on.
pub fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let (mut within, mut dev) = (false, false);
    for (at, line) in manifest.lines().map(str::trim).enumerate() {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (table, name) = match section.split_once("dependencies.") {
                Some((before, name)) => (format!("{before}dependencies"), Some(name)),
                None => (section.to_owned(), None),
            };
            within = table.ends_with("dependencies") && name.is_none();
            dev = table.ends_with("dev-dependencies");
            found.extend(name.map(|name| Dependency { name: name.into(), line: at + 1, dev }));
        } else if within && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or(line);
            found.push(Dependency { name: name.trim_matches('"').into(), line: at + 1, dev });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_points_back_is_named_with_its_line() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let core = file(
            "host/core/Cargo.toml",
            "[package]\nname = \"x\"\n[dependencies]\nbytes.workspace = true\ntokio = \"1\"\n",
        );
        let engine =
            file("host/engine/Cargo.toml", "[dependencies]\npelton-core.workspace = true\n[dependencies.pelton-aws]\n");
        let found = breaches(&[core, engine]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("host/core/Cargo.toml:5:") && found[1].starts_with("host/engine/Cargo.toml:3:"));
    }
}
